"""Rows of a file as they stand in it, before anything is judged."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from processing.intake.limits import SHOWN_BYTES
from processing.intake.records import Torn


@dataclass(frozen=True)
class RawRows:
    """Some rows of a file, n of them, and the lines among them that are no rows.

    columns: the raw values by the column's name, [n] each
    lines: the line in which each row begins, [n]; in a Parquet file the row's number, from 1
    contents: for the places of some rows, in ascending order, the whole content of each
    """

    columns: dict[str, pa.Array]
    lines: NDArray[np.int64]
    torn: Sequence[Torn]
    contents: Callable[[Sequence[int]], list[str]]


def as_content(values: Iterable[tuple[str, Any]]) -> str:
    """A row as JSON. A name that is there again is told apart by a number; what is very long is cut, and says so."""
    row: dict[str, Any] = {}
    for name, value in values:
        key, count = name, 1
        while key in row:
            count += 1
            key = f"{name} ({count})"
        row[key] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return shortened(json.dumps(row, default=str, ensure_ascii=False))


def shortened(text: str) -> str:
    """The text, or its beginning if it is very long."""
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}... (cut; the file has all {len(text):,})"
