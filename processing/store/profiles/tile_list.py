"""Tiles of one size, in the order of time: counting an event, merging a range, dropping what is too old."""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeAlias

from processing.features.tiles import Column, Tile, union

Values: TypeAlias = "array[int] | list[bytes]"
MERGE_MANY: dict[Callable[[Any, Any], Any], Callable[[Any], Any]] = {
    add: sum,
    min: min,
    max: max,
    union: lambda values: reduce(union, values),
}


class TileList:
    """Tiles of one size, with their numbers in order and a list of values for each of `columns`."""

    __slots__ = ("columns", "numbers", "values")

    def __init__(
        self, columns: Sequence[Column], numbers: "array[int] | None" = None, values: list[Values] | None = None
    ) -> None:
        self.columns = columns
        self.numbers = array("q") if numbers is None else numbers
        self.values = [[] if is_bytes(column) else array("q") for column in columns] if values is None else values

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, tile: Tile) -> None:
        """Merge a tile into the one of that number."""
        index = bisect_left(self.numbers, number)
        if index < len(self.numbers) and self.numbers[index] == number:
            for (_, merge, _), own, value in zip(self.columns, self.values, tile, strict=True):
                own[index] = merge(own[index], value)
        else:
            self.numbers.insert(index, number)
            for own, value in zip(self.values, tile, strict=True):
                own.insert(index, value)

    def keep_from(self, number: int) -> None:
        """Drop the tiles before a number."""
        index = bisect_left(self.numbers, number)
        if index:
            del self.numbers[:index]
            for own in self.values:
                del own[:index]

    def tile(self, index: int) -> Tile:
        """The tile at an index."""
        return tuple([own[index] for own in self.values])


def merge_range(lists: Sequence[TileList], start: int, end: int, places: Sequence[tuple[int, Column]]) -> Tile:
    """The tiles from `start` up to but not including `end` of some lists, merged into one.

    places: for each column of the result, its index in the lists, and the column
    """
    parts = []
    for each in lists:
        numbers = each.numbers
        low = bisect_left(numbers, start)
        high = bisect_left(numbers, end, low)
        if low < high:
            parts.append((each.values, low, high))
    if not parts:
        return tuple([column.neutral for _, column in places])
    values, low, high = parts[0]
    if high - low == 1:
        merged = [values[place][low] for place, _ in places]
    else:
        merged = [MERGE_MANY[merge](values[place][low:high]) for place, (_, merge, _) in places]
    for values, low, high in parts[1:]:
        for index, (place, (_, merge, _)) in enumerate(places):
            merged[index] = merge(merged[index], MERGE_MANY[merge](values[place][low:high]))
    return tuple(merged)


def is_bytes(column: Column) -> bool:
    """Whether a column holds bytes instead of integers."""
    return isinstance(column.neutral, bytes)


def neutral_values(column: Column, count: int) -> Values:
    """The values of so many tiles without events."""
    return [column.neutral] * count if isinstance(column.neutral, bytes) else array("q", [column.neutral]) * count
