"""Rows of a file as they stand in it, before they are checked."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from processing.intake.limits import CONTENT_LENGTH
from processing.intake.records import MalformedLine


@dataclass(frozen=True)
class RawRows:
    """Some rows of a file, n of them, and the malformed lines among them.

    columns: the raw values by column name, [n] each
    lines: the line in which each row begins, [n]; in a Parquet file the row's number, from 1
    contents: gives the whole content of the rows at some positions, in ascending order
    """

    columns: dict[str, pa.Array]
    lines: NDArray[np.int64]
    malformed: Sequence[MalformedLine]
    contents: Callable[[Sequence[int]], list[str]]


def as_content(values: Iterable[tuple[str, Any]]) -> str:
    """A row as JSON. A repeated column name gets a number; a very long row is cut, with a note."""
    row: dict[str, Any] = {}
    for name, value in values:
        key, count = name, 1
        while key in row:
            count += 1
            key = f"{name} ({count})"
        row[key] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return cut(json.dumps(row, default=str, ensure_ascii=False))


def cut(text: str) -> str:
    """The text, or its beginning if it is longer than CONTENT_LENGTH."""
    return text if len(text) <= CONTENT_LENGTH else f"{text[:CONTENT_LENGTH]}... (cut; the file has all {len(text):,})"
