"""Reading a Lambda function's settings from `FRAUDLINE_*` variables.

Each handler declares its settings as a frozen dataclass of text and whole numbers, and reads them first.
"""

import os
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from processing.errors import BadInput

PREFIX = "FRAUDLINE_"


class IsDataclass(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Settings = TypeVar("Settings", bound=IsDataclass)


def read_settings(kind: type[Settings], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings that a dataclass declares. Raises BadInput naming every variable that is missing or wrong."""
    values: dict[str, str | int] = {}
    problems = []
    for field in fields(kind):
        name = PREFIX + field.name.upper()
        text = environment.get(name, "")
        if not text:
            problems.append(f"{name} is not set")
        elif field.type is int and not text.isdecimal():
            problems.append(f"{name} is {text!r}, expected a whole number")
        else:
            values[field.name] = int(text) if field.type is int else text
    if problems:
        raise BadInput(f"the function has wrong settings: {'; '.join(problems)}. Deploy again, which sets them")
    return kind(**values)
