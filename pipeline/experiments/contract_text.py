"""Changes in a contract's TOML text: a table is replaced or added, all other text stays, with its comments."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from processing.errors import BadInput

LISTED = ("entity", "feature")  # the tables of which a contract has several, each with a name


def with_table(text: str, kind: str, name: str, entries: dict[str, Any]) -> str:
    """The text with these entries in its [[kind]] table of that name, which is added if there is none.

    An entry that is None is left out of the table. Raises BadInput if the text does not write the tables of that kind
    under [[kind]] headers.
    """
    parts = list(_parts(text))
    for number, part in enumerate(parts):
        if (table := _table(part, kind)) and table.get("name") == name:
            parts[number] = _written(kind, table | entries) + _end(part)
            return "".join(parts)
    _check_headers(text, parts, kind)
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}\n{_written(kind, {'name': name, **entries})}"


def without_table(text: str, name: str) -> str:
    """The text without its entity or declared feature of that name. Raises BadInput if there is none."""
    parts = list(_parts(text))
    for number, part in enumerate(parts):
        if any((_table(part, kind) or {}).get("name") == name for kind in LISTED):
            return "".join([*parts[:number], _end(part), *parts[number + 1 :]])
    for kind in LISTED:
        _check_headers(text, parts, kind)
    raise BadInput(f"the contract has no entity and no declared feature {name!r}")


def _parts(text: str) -> Iterator[str]:
    """The text, cut before each header of a table. Every part is TOML by itself."""
    lines, start = text.splitlines(keepends=True), 0
    for number, line in enumerate(lines):
        if line.lstrip().startswith("[") and _is_complete("".join(lines[start:number])):
            yield "".join(lines[start:number])
            start = number
    yield "".join(lines[start:])


def _is_complete(text: str) -> bool:
    """Whether a text does not end within a value: a list or a text over several lines may have a line with a [."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _table(part: str, kind: str) -> dict[str, Any] | None:
    """The table that a part consists of; None if it is no [[kind]] table."""
    if not part.lstrip().startswith("["):
        return None
    tables = tomllib.loads(part).get(kind)
    return tables[0] if isinstance(tables, list) else None


def _check_headers(text: str, parts: list[str], kind: str) -> None:
    if len(tomllib.loads(text).get(kind, ())) != sum(_table(part, kind) is not None for part in parts):
        raise BadInput(f"the contract lists its {kind} tables in one line; write each under [[{kind}]] to change them")


def _written(kind: str, entries: dict[str, Any]) -> str:
    """A table. What JSON writes for a text, a number, a truth value or a list of them is TOML too."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in entries.items()
        if value is not None
    ]
    return "\n".join([f"[[{kind}]]", *lines, ""])


def _end(part: str) -> str:
    """The blank lines and comments at the end of a part: they belong to what follows."""
    lines = part.splitlines(keepends=True)
    end = len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return "".join(lines[end:])
