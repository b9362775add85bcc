"""The keys of a TOML table, taken one by one, so that a wrong, missing or misspelt one is named."""

import math
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from processing.errors import BadInput

WORDS = {str: "text", int: "whole number", float: "number", list: "list", dict: "table", datetime: "date and time"}


class TomlTable:
    """One table of a document; `source` names it in errors. After the last `take`, `finish` refuses what is left."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values, self.source = values, source
        self.taken: set[str] = set()

    def take(
        self, key: str, kind: type, default: Any = ..., *, least: float = -math.inf, most: float = math.inf
    ) -> Any:
        """The value of a key, of that type and within these bounds; a key without a default is required.

        Raises BadInput, as all of this class does.
        """
        self.taken.add(key)
        value: Any = self.values.get(key, default)
        what = WORDS[kind]
        if value is ...:
            near = get_close_matches(key, self.values.keys() - self.taken, 1)
            hint = f"; {near[0]!r} is there, did you mean that?" if near else ""
            raise BadInput(f"{self.source}: the key {key!r} is missing (expected {what}){hint}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {what}")
        if isinstance(value, str) and not value.strip():
            raise BadInput(f"{self.source}: {key} is empty, expected {what}")
        if isinstance(value, int | float) and not (least <= value <= most and math.isfinite(value)):
            bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {bounds}")
        return value

    def texts(self, key: str, default: Any = ..., *, digits: bool = False) -> tuple[str, ...]:
        """A list of different texts, trimmed; with `digits`, whole numbers stand for their digits."""
        found = self.take(key, list, default)
        texts = tuple(str(value).strip() for value in found)
        allowed = str | int if digits else str
        for value, text in zip(found, texts, strict=True):
            if not isinstance(value, allowed) or isinstance(value, bool) or not text:
                raise BadInput(f"{self.source}: {key} has {value!r}, expected a list of texts that are not empty")
            if texts.count(text) > 1:
                raise BadInput(f"{self.source}: {key} has {text!r} twice")
        return texts

    def table(self, key: str, *, optional: bool = False) -> "TomlTable":
        """The table below that key."""
        values = self.take(key, dict, {} if optional else ...)
        return TomlTable(values, f"{self.source} [{key}]")

    def tables(self, key: str) -> list["TomlTable"]:
        """The tables of the array [[key]]; none if it is not there."""
        entries = self.take(key, list, [])
        for entry in entries:
            if not isinstance(entry, dict):
                raise BadInput(f"{self.source}: {key} has {entry!r}, expected tables, each begun by [[{key}]]")
        return [TomlTable(entry, f"{self.source} [[{key}]]") for entry in entries]

    def finish(self) -> None:
        """Raise BadInput if a key is there that nobody has taken."""
        for key in sorted(self.values.keys() - self.taken):
            near = get_close_matches(key, self.taken, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(self.taken))}"
            raise BadInput(f"{self.source}: unknown key {key!r}{hint}")
