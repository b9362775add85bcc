"""How a declared feature's value reads as a reason: `says` in a contract."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter

from processing.errors import BadInput

MOST_CHARACTERS = 200
_SPEC = re.compile(r"(?P<comma>,?)(?P<form>d|\.[0-9][f%])")
_EXPECTED = "write {value}, {value:.1f}, {value:,.2f}, {value:,d} or {value:.0%}"


@dataclass(frozen=True)
class Words:
    """A checked template. `parts` are texts, and formats of the value in tuples of one."""

    name: str
    template: str
    parts: tuple[str | tuple[str], ...]

    def render(self, value: float) -> str:
        """The words for a value; for one that is not known, the feature's name and that it is unknown."""
        if not math.isfinite(value):
            return f"{self.name.replace('_', ' ')} unknown"
        return "".join(part if isinstance(part, str) else format(value, part[0]) for part in self.parts)


def parse_words(template: str, name: str, source: str) -> Words:
    """The words of the feature of that name; `source` names the template's place in errors.

    The only field is {value}, plain or with a format: decimals (.1f), whole (d), per cent (.0%), each with thousands
    separators after a comma. Braces are written twice. Raises BadInput.
    """
    if not template.strip() or len(template) > MOST_CHARACTERS or not template.isprintable():
        raise BadInput(f"{source}: expected 1 to {MOST_CHARACTERS} printable characters, found {template[:40]!r}")
    return Words(name, template, tuple(_parts(template, source)))


def _parts(template: str, source: str) -> Iterator[str | tuple[str]]:
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        raise BadInput(f"{source}: {template!r} is no template: {error}; a brace is written twice") from None
    for text, field, spec, conversion in fields:
        if text:
            yield text
        if field is None:
            continue
        if field != "value" or conversion:
            raise BadInput(f"{source}: the only field is the value, found {{{field}}}; {_EXPECTED}")
        match = _SPEC.fullmatch(spec or "")
        if spec and match is None:
            raise BadInput(f"{source}: the format {spec!r} is not known; {_EXPECTED}")
        # z: what rounds to zero has no sign
        yield (f"z{match['comma']}{match['form'].replace('d', '.0f')}" if match else "zg",)
