"""Rows in groups, for one call or one transaction each."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def groups_of(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """The rows in groups of `size`; the last one may be smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
