"""Tiles: what happened to an entity in a stretch of time, in a few values that merge exactly.

A tile is a tuple of values, one per column. Merging tiles in any order or grouping gives the tile of all their events,
because every column merges by an associative and commutative operation: sums of integers, minimum, maximum, and unions
of small sets. ("Tile" and "sawtooth window" are terms of the Chronon feature platform.)
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

Value: TypeAlias = int | bytes | None  # None: no event
Tile: TypeAlias = tuple[Value, ...]

HASH_BYTES = 8
MOST_DISTINCT = 32  # a set holds one more, which means "more than that"


class Merge(Enum):
    """How the values of a column merge."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"
    UNION = "union"


class Column(NamedTuple):
    """A column of an entity's tiles."""

    name: str
    merge: Merge


class TileRange(NamedTuple):
    """The tiles of one size from `start` up to but not including `end`; both are numbers of tiles since 1970.

    level: index of the tile size in the entity's `levels`
    """

    level: int
    start: int
    end: int


class FraudTile(NamedTuple):
    """The frauds of an entity that became known in the same five minutes."""

    tile: int  # number of the five minutes since 1970
    frauds: int
    amount: int  # sum of their amounts, in minor units


class EntityTiles(Protocol):
    """The tiles of one entity's key, wherever they are stored."""

    def merged(self, ranges: Sequence[TileRange]) -> list[Tile]:
        """For each range its tiles merged into one. In a range without tiles, sums are 0 and other values None."""

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        """The fraud tiles from `start` up to but not including `end`, oldest first, without those of no fraud."""


def merge_values(merge: Merge, one: Value, other: Value) -> Value:
    """Two values of a column merged. None is neutral."""
    if one is None or other is None:
        return other if one is None else one
    match merge:
        case Merge.SUM:
            return one + other  # type: ignore[operator]
        case Merge.MIN:
            return min(one, other)  # type: ignore[type-var]
        case Merge.MAX:
            return max(one, other)  # type: ignore[type-var]
        case Merge.UNION:
            return union(one, other)  # type: ignore[arg-type]


def merge_tiles(columns: Sequence[Column], tiles: Iterable[Tile]) -> Tile:
    """Tiles merged into one; the tile without events if there are none."""
    merged = empty_tile(columns)
    for tile in tiles:
        merged = tuple(
            merge_values(column.merge, one, other) for column, one, other in zip(columns, merged, tile, strict=True)
        )
    return merged


def empty_tile(columns: Sequence[Column]) -> Tile:
    """The tile without events: neutral for merging."""
    return tuple(0 if column.merge is Merge.SUM else None for column in columns)


def union(one: bytes, other: bytes) -> bytes:
    """The union of two sets of hashes, each hash HASH_BYTES long, in order; at most MOST_DISTINCT + 1 of them.

    The smallest are kept. The number of hashes in a union of sets is then exact up to MOST_DISTINCT, in whatever order
    they are merged.
    """
    if not one or not other or one == other:
        return one or other
    hashes = {part[i : i + HASH_BYTES] for part in (one, other) for i in range(0, len(part), HASH_BYTES)}
    return b"".join(sorted(hashes)[: MOST_DISTINCT + 1])
