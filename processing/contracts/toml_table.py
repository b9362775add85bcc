"""Reads the keys of a TOML table one by one, so that an error names a wrong, missing or misspelt key."""

import math
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from processing.errors import BadInput

TYPE_NAMES = {str: "text", int: "whole number", float: "number", list: "list", dict: "table", datetime: "date and time"}


class TomlTable:
    """One table of a document; `source` names it in errors. After the last `take`, `finish` refuses unknown keys."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values, self.source = values, source
        self._known: set[str] = set()

    def take(
        self, key: str, kind: type, default: Any = ..., *, least: float = -math.inf, most: float = math.inf
    ) -> Any:
        """The value of a key, of that type and within bounds; a key without a default is required.

        Raises BadInput, as every method does.
        """
        self._known.add(key)
        value: Any = self.values.get(key, default)
        expected = TYPE_NAMES[kind]
        if value is ...:
            near = get_close_matches(key, self.values.keys() - self._known, 1)
            hint = f"; did you mean {near[0]!r}, which is there?" if near else ""
            raise BadInput(f"{self.source}: the key {key!r} is missing (expected {expected}){hint}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {expected}")
        if isinstance(value, str) and not value.strip():
            raise BadInput(f"{self.source}: {key} is empty, expected {expected}")
        if isinstance(value, int | float) and not (least <= value <= most and math.isfinite(value)):
            bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {bounds}")
        return value

    def flag(self, key: str) -> bool:
        """Whether a key is true; false if it is missing."""
        self._known.add(key)
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise BadInput(f"{self.source}: {key} is {value!r}, expected true or false")
        return value

    def texts(self, key: str, default: Any = ..., *, digits: bool = False) -> tuple[str, ...]:
        """A list of distinct texts, trimmed; with `digits`, whole numbers count as texts too."""
        values = self.take(key, list, default)
        texts = tuple(str(value).strip() for value in values)
        allowed = str | int if digits else str
        for value, text in zip(values, texts, strict=True):
            if not isinstance(value, allowed) or isinstance(value, bool) or not text:
                raise BadInput(f"{self.source}: {key} has {value!r}, expected a list of texts that are not empty")
            if texts.count(text) > 1:
                raise BadInput(f"{self.source}: {key} has {text!r} twice")
        return texts

    def table(self, key: str, *, optional: bool = False) -> "TomlTable":
        """The table under a key."""
        values = self.take(key, dict, {} if optional else ...)
        return TomlTable(values, f"{self.source} [{key}]")

    def tables(self, key: str) -> list["TomlTable"]:
        """The tables of the array [[key]]; none if the key is missing."""
        entries = self.take(key, list, [])
        for entry in entries:
            if not isinstance(entry, dict):
                raise BadInput(f"{self.source}: {key} has {entry!r}, expected tables, each headed [[{key}]]")
        return [TomlTable(entry, f"{self.source} [[{key}]]") for entry in entries]

    def finish(self) -> None:
        """Raise BadInput for a key that was not read."""
        for key in sorted(self.values.keys() - self._known):
            near = get_close_matches(key, self._known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(self._known))}"
            raise BadInput(f"{self.source}: unknown key {key!r}{hint}")
