"""Fraud windows: the frauds of an entity that became known before an event, to five minutes."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from processing.arrays import Ints
from processing.durations import FIVE_MINUTES_US
from processing.features.ranges import running_sums
from processing.features.tiles import EntityTiles, FraudTile

T = TypeVar("T", int, Ints)

NEVER = 2**62  # the tile in which a label that stands is withdrawn


class FraudWindow(NamedTuple):
    """A fraud window: its name in features, its length, and two tile sizes, in microseconds.

    tile_us: of the events that the frauds are divided by
    edge_us: to which its far end is rounded down
    """

    name: str
    us: int
    tile_us: int
    edge_us: int = FIVE_MINUTES_US


class Labels(NamedTuple):
    """Frauds of many entities, in any order, each [m] int64.

    known, withdrawn: numbers of five-minute tiles since 1970; a fraud counts from the tile after `known` up to and
        including `withdrawn`
    """

    entity: Ints
    known: Ints
    withdrawn: Ints
    amount: Ints


class FraudState(NamedTuple):
    """The known frauds of one entity: count and amount for each window, and the longest one's first and last tile."""

    sums: list[tuple[int, int]]
    first: int | None
    last: int | None


class FraudStates(NamedTuple):
    """The known frauds of every event's entity: [n] counts and amounts for each window.

    first, last: the tiles of the first and the last fraud in the longest window, [n]; -1 without a fraud
    """

    sums: list[tuple[Ints, Ints]]
    first: Ints
    last: Ints


def first_tile(window: FraudWindow, time_us: T) -> T:
    """The first tile whose frauds the window holds at a time."""
    return (time_us // window.edge_us * window.edge_us - window.us) // FIVE_MINUTES_US


def fraud_state(windows: Sequence[FraudWindow], time_us: int, tiles: EntityTiles) -> FraudState:
    """The known frauds of one entity at a time. `windows` are in order, the longest last."""
    starts = [first_tile(window, time_us) for window in windows]
    known = tiles.frauds(starts[-1], time_us // FIVE_MINUTES_US)
    held = [[each for each in known if each.tile >= start] for start in starts]
    sums = [(sum(each.frauds for each in some), sum(each.amount for each in some)) for some in held]
    return FraudState(sums, known[0].tile if known else None, known[-1].tile if known else None)


def fraud_states(windows: Sequence[FraudWindow], labels: Labels, entity: Ints, time_us: Ints) -> FraudStates:
    """The known frauds of every event's entity at its time. `windows` are in order, the longest last.

    Events are sorted by entity and time. Labels that were withdrawn should be few: each is counted on its own.
    """
    now = time_us // FIVE_MINUTES_US
    starts = [first_tile(window, time_us) for window in windows]
    base = min(int(starts[-1].min()), int(labels.known.min(initial=NEVER)))
    width = max(int(now.max()), int(labels.known[labels.known < NEVER].max(initial=0))) - base + 2

    def key(codes: Ints, tile: Ints) -> Ints:
        keys: Ints = codes * width + (tile - base)
        return keys

    standing = labels.withdrawn == NEVER
    keys = key(labels.entity[standing], labels.known[standing])
    order = np.argsort(keys, kind="stable")
    keys, amounts = keys[order], running_sums(labels.amount[standing][order])
    high = np.searchsorted(keys, key(entity, now), side="left")
    sums = []
    for start in starts:
        low = np.searchsorted(keys, key(entity, start), side="left")
        sums.append((high - low, amounts[high] - amounts[low]))
    some, padded = high > low, np.append(keys, 0)
    first, last = (np.where(some, padded[index] - entity * width + base, -1) for index in (low, high - 1))
    for label in np.flatnonzero(~standing):
        code, known, withdrawn, amount = (int(column[label]) for column in labels)
        begin, end = np.searchsorted(entity, [code, code + 1])
        held = slice(
            begin + int(np.searchsorted(now[begin:end], known, side="right")),
            begin + int(np.searchsorted(now[begin:end], withdrawn, side="right")),
        )
        for start, (count, total) in zip(starts, sums, strict=True):
            inside = (start[held] <= known).astype(np.int64)
            count[held] += inside
            total[held] += inside * amount
        in_longest, was = starts[-1][held] <= known, first[held]
        first[held] = np.where(in_longest & ((was < 0) | (was > known)), known, was)
        last[held] = np.where(in_longest, np.maximum(last[held], known), last[held])
    return FraudStates(sums, first, last)


def merge_fraud_tiles(tiles: Sequence[FraudTile]) -> list[FraudTile]:
    """Fraud tiles of the same time merged, oldest first, without those of no fraud."""
    sums: dict[int, tuple[int, int]] = {}
    for tile, frauds, amount in tiles:
        known = sums.get(tile, (0, 0))
        sums[tile] = known[0] + frauds, known[1] + amount
    return [FraudTile(tile, *both) for tile, both in sorted(sums.items()) if both[0]]
