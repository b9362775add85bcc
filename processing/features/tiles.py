"""Tiles: what happened to an entity in a stretch of time, in a few values that merge exactly.

A tile is a tuple of values, one per column. Merging tiles in any order or grouping gives the tile of all their events,
because every column merges by an associative and commutative operation: sums of integers, minimum, maximum, and unions
of small sets. ("Tile" and "sawtooth window" are terms of the Chronon feature platform.)
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add, call
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from processing.arrays import Ints

Tile: TypeAlias = tuple[Any, ...]  # int or bytes for each column
Merge: TypeAlias = Callable[[Any, Any], Any]

HASH_BYTES = 8
MOST_DISTINCT = 32  # a set holds one more, which means "more than that"


class Column(NamedTuple):
    """A column of an entity's tiles: its name, how two of its values merge, and the value of a tile without events."""

    name: str
    merge: Merge
    neutral: int | bytes


def total(name: str) -> Column:
    """A column of sums."""
    return Column(name, add, 0)


def minimum(name: str) -> Column:
    """A column of the smallest integers."""
    return Column(name, min, 2**63 - 1)


def maximum(name: str) -> Column:
    """A column of the largest integers."""
    return Column(name, max, -(2**63))


def latest(name: str) -> Column:
    """A column of the greatest bytes: those of the last event, if they begin with its time."""
    return Column(name, max, b"")


def distinct(name: str) -> Column:
    """A column of sets of hashes, as `union` merges them."""
    return Column(name, union, b"")


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
        """For each range its tiles merged into one. A range without tiles gives the tile without events."""

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        """The fraud tiles from `start` up to but not including `end`, oldest first, without those of no fraud."""


def merge_two(merges: Sequence[Merge], one: Tile, other: Tile) -> Tile:
    """Two tiles merged, column by column, as `merges` do. The first column is the number of events."""
    if not other[0]:
        return one
    if not one[0]:
        return other
    return tuple(map(call, merges, one, other))


def empty_tile(columns: Sequence[Column]) -> Tile:
    """The tile without events: neutral for merging."""
    return tuple([column.neutral for column in columns])


def merge_runs(column: Column, values: Ints | list[bytes], starts: Ints) -> Ints | list[bytes]:
    """The values of a column merged run by run; a run goes from one of `starts` to the next, [len(starts)]."""
    if not len(starts):
        return values[:0]
    if isinstance(values, list):
        ends = [*starts[1:].tolist(), len(values)]
        return [reduce(column.merge, values[start:end]) for start, end in zip(starts.tolist(), ends, strict=True)]
    merge = {add: np.add, min: np.minimum, max: np.maximum}[column.merge]
    return merge.reduceat(values, starts)


def union(one: bytes, other: bytes) -> bytes:
    """The union of two sets of hashes, each hash HASH_BYTES long, in order; at most MOST_DISTINCT + 1 of them.

    The smallest are kept. The number of hashes in a union of sets is then exact up to MOST_DISTINCT, in whatever order
    they are merged.
    """
    if not one or not other or one == other:
        return one or other
    hashes = {part[i : i + HASH_BYTES] for part in (one, other) for i in range(0, len(part), HASH_BYTES)}
    return b"".join(sorted(hashes)[: MOST_DISTINCT + 1])
