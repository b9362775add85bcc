"""Settings of the Lambda functions, from `FRAUDLINE_*` variables.

Each handler declares what it must be told as a frozen dataclass of text and whole numbers, and reads it before it
does anything else.
"""

import os
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from processing.errors import BadInput

PREFIX = "FRAUDLINE_"


class Declared(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Settings = TypeVar("Settings", bound=Declared)


def read_settings(kind: type[Settings], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of that kind. Raises BadInput naming every variable that is missing or no number."""
    values: dict[str, str | int] = {}
    wrong = []
    for field in fields(kind):
        name = PREFIX + field.name.upper()
        said = environment.get(name, "")
        if not said:
            wrong.append(f"{name} is not set")
        elif field.type is int and not said.isdecimal():
            wrong.append(f"{name} is {said!r}, which is no whole number")
        else:
            values[field.name] = int(said) if field.type is int else said
    if wrong:
        raise BadInput(f"the function cannot work: {'; '.join(wrong)}. Deploy again, which sets them")
    return kind(**values)
