"""Sawtooth windows: what an entity did before an event. Offline for all events, online for one.

A window of length W consists of tiles: five minutes long up to 12 hours, an hour up to 12 days, a day beyond. For an
event in tile b it holds the entity's events of the tiles in (b - W, b]: whole tiles at its far end, and at its near end
the events before this one. Within the current tile, those are found in smaller tiles, down to the entity's granule (a
second, or a minute for a busy entity). Events of one granule do not see each other, so the result does not depend on
the order in which they arrive.

Frauds count from when they became known, to five minutes: a fraud window holds the frauds that became known in the
five-minute tiles [t - W, t). The rate divides them by the events that were old enough to be judged, those of the tiles
[b - D - W, b - D) for a label delay D.

All state is integers, so offline and online agree bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Ints
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, SECOND_US
from processing.features.aggregates import Aggregate, EventValues, Input, Range
from processing.features.fraud_windows import FraudState, FraudWindow, Labels, fraud_state, fraud_states
from processing.features.tiles import Column, EntityTiles, Tile, TileRange, empty_tile, merge_runs, merge_two

FINEST_LEVELS = (FIVE_MINUTES_US, HOUR_US, DAY_US)


class Window(NamedTuple):
    """A window: its name in features, its length and the size of its tiles in microseconds."""

    name: str
    us: int
    tile_us: int

    def first_tile(self, time_us: int) -> int:
        """The number of the first tile that it holds at a time."""
        return (time_us - self.us) // self.tile_us + 1


class Events(NamedTuple):
    """Events of many entities in any order, each [n] int64: `entity` holds codes, `columns` the aggregates' inputs."""

    entity: Ints
    time_us: Ints
    amount: Ints
    columns: Mapping[Input, Ints]


class TileTable(NamedTuple):
    """Tiles of one size: the code of each one's entity, its number, and its values by column, each [m]."""

    entity: Ints
    number: Ints
    columns: list[Ints | list[bytes]]


@dataclass(frozen=True)
class EntityWindows:
    """The windows of one entity, shortest first, and what they hold.

    levels: the tile sizes that it keeps, in microseconds, smallest first; the first one is its granule
    """

    windows: tuple[Window, ...]
    fraud_windows: tuple[FraudWindow, ...]
    delay_us: int
    aggregates: tuple[Aggregate, ...]
    levels: tuple[int, ...] = (SECOND_US, *FINEST_LEVELS)

    @cached_property
    def tile_columns(self) -> tuple[Column, ...]:
        """The columns of a tile. The first is the number of events."""
        return tuple(column for aggregate in self.aggregates for column in aggregate.tile_columns)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The columns that the aggregates read, each once."""
        return tuple(dict.fromkeys(each for aggregate in self.aggregates for each in aggregate.inputs))

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The names of the state's values, window after window, then those of the fraud windows."""
        names = [
            f"{name}_{window.name}"
            for window in self.windows
            for aggregate in self._of(window)
            for name in aggregate.state_names
        ]
        names += [f"{name}_{window.name}" for window in self.fraud_windows for name in ("judged", "frauds", "lost")]
        recency = ("since_first_fraud", "since_last_fraud", "after_last_fraud") if self.fraud_windows else ()
        return (*names, *recency)

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """For each level, how many tiles before the current one a window or its near end can reach."""
        reach = [upper // own for own, upper in zip(self.levels, self.levels[1:], strict=False)] + [0]
        for window in self.windows:
            level = self.levels.index(window.tile_us)
            reach[level] = max(reach[level], window.us // window.tile_us)
        for fraud in self.fraud_windows:
            level = self.levels.index(fraud.tile_us)
            reach[level] = max(reach[level], (self.delay_us + fraud.us) // fraud.tile_us)
        return tuple(reach)

    @property
    def lookback_us(self) -> int:
        """How long before an event another one can still change its state."""
        return max(tiles * size + size for tiles, size in zip(self.reach, self.levels, strict=True))

    def tile_of(self, event: EventValues) -> Tile:
        """The tile of a single event."""
        return tuple(value for aggregate in self.aggregates for value in aggregate.tile_of(event))

    def _of(self, window: Window) -> list[Aggregate]:
        longest = window == self.windows[-1]
        return [aggregate for aggregate in self.aggregates if longest or not aggregate.longest_only]

    def tiles_of(self, events: Events, size: int) -> TileTable:
        """All tiles of a size, in microseconds, that the events make, in the order of entity and number."""
        order = np.lexsort((events.time_us // size, events.entity))
        entity, time_us, amount = (column[order] for column in events[:3])
        columns = {each: events.columns[each][order] for each in self.inputs}
        none = np.zeros(0, np.int64)
        held = Range(time_us, none, amount, columns, none, none)
        starts = np.flatnonzero(np.concatenate(([True] * min(1, len(order)), _changes(entity, time_us // size))))
        values = [column for aggregate in self.aggregates for column in aggregate.tiles_of(held)]
        merged = [merge_runs(column, each, starts) for column, each in zip(self.tile_columns, values, strict=True)]
        return TileTable(entity[starts], time_us[starts] // size, merged)

    # Online

    def state_at(self, event: EventValues, tiles: EntityTiles) -> list[int]:
        """The state of one event's entity, in the order of `state_names`. `tiles` need not hold the event itself."""
        time_us = event.time_us
        frauds = fraud_state(self.fraud_windows, time_us, tiles) if self.fraud_windows else None
        since = self._merged_since(time_us, self._edges(time_us, frauds), tiles)
        near, nears = self._nothing, []
        for level in range(len(self.levels)):
            nears.append(near)
            if level < len(self.levels) - 1:
                near = merge_two(self.tile_columns, since[level][self._near(time_us, level)], near)
        state: list[int] = []
        for level, window, aggregates in self._parts:
            merged = merge_two(self.tile_columns, since[level][window.first_tile(time_us)], nears[level])
            for aggregate, place in aggregates:
                state += aggregate.online(merged[place], event)
        if frauds:
            counts = {edge: tile[0] for edge, tile in since[self._fraud_level].items()}
            end = self._judged_end(time_us)
            for fraud, (count, amount) in zip(self.fraud_windows, frauds.sums, strict=True):
                state += [counts[end - fraud.us // fraud.tile_us] - counts[end], count, amount]
            if frauds.first is None or frauds.last is None:
                state += [0, 0, 0]
            else:
                ages = (self._tiles_since(time_us, tile) for tile in (frauds.first, frauds.last))
                state += [*ages, counts[self._after(frauds.last, end)] - counts[end]]
        return state

    def _edges(self, time_us: int, frauds: FraudState | None) -> list[set[int]]:
        """For each level, the tiles at which something begins or ends."""
        edges: list[set[int]] = [set() for _ in self.levels]
        for level in range(len(self.levels) - 1):
            edges[level].add(self._near(time_us, level))
        for window in self.windows:
            edges[self.levels.index(window.tile_us)].add(window.first_tile(time_us))
        if frauds:
            end = self._judged_end(time_us)
            judged = edges[self._fraud_level]
            judged |= {end, *(end - fraud.us // fraud.tile_us for fraud in self.fraud_windows)}
            if frauds.last is not None:
                judged.add(self._after(frauds.last, end))
        return edges

    def _merged_since(self, time_us: int, edges: Sequence[set[int]], tiles: EntityTiles) -> list[dict[int, Tile]]:
        """For each level, all tiles from each edge up to the current tile, merged."""
        ranges = []
        for level, (size, some) in enumerate(zip(self.levels, edges, strict=True)):
            ends = sorted(some | {time_us // size}, reverse=True)
            ranges += [TileRange(level, start, end) for end, start in pairwise(ends)]
        since: list[dict[int, Tile]] = [{time_us // size: self._nothing} for size in self.levels]
        for (level, start, end), merged in zip(ranges, tiles.merged(ranges), strict=True):
            since[level][start] = merge_two(self.tile_columns, since[level][end], merged)
        return since

    @cached_property
    def _nothing(self) -> Tile:
        return empty_tile(self.tile_columns)

    @cached_property
    def _parts(self) -> list[tuple[int, Window, list[tuple[Aggregate, slice]]]]:
        """For each window its level, and its aggregates with their places in a tile."""
        ends = list(accumulate(len(aggregate.tile_columns) for aggregate in self.aggregates))
        places = {
            aggregate: slice(end - len(aggregate.tile_columns), end)
            for aggregate, end in zip(self.aggregates, ends, strict=True)
        }
        return [
            (self.levels.index(window.tile_us), window, [(each, places[each]) for each in self._of(window)])
            for window in self.windows
        ]

    def _near(self, time_us: int, level: int) -> int:
        """The first tile of a level in the current tile of the next one."""
        upper = self.levels[level + 1]
        return time_us // upper * upper // self.levels[level]

    @cached_property
    def _fraud_level(self) -> int:
        """The level of the tiles that frauds are divided by: one for all fraud windows."""
        return self.levels.index(self.fraud_windows[-1].tile_us)

    def _judged_end(self, time_us: int) -> int:
        """The end of the tiles whose events are old enough to be judged."""
        size = self.fraud_windows[-1].tile_us
        return time_us // size - self.delay_us // size

    def _after(self, last: int, end: int) -> int:
        """The first tile of events that became old enough to be judged after the last known fraud did."""
        size = self.fraud_windows[-1].tile_us
        return min(last * FIVE_MINUTES_US // size - self.delay_us // size + 1, end)

    def _tiles_since(self, time_us: int, known: int) -> int:
        """The time since a fraud became known, in units of `edge_us`."""
        unit = self.fraud_windows[-1].edge_us
        return time_us // unit - known * FIVE_MINUTES_US // unit

    # Offline

    def states(self, events: Events, labels: Labels) -> Ints:
        """The state of every event's entity at its time, [n, len(state_names)], in the order of the events.

        O(n log n), however the events are spread over entities.
        """
        n = len(events.entity)
        if not n:
            return np.zeros((0, len(self.state_names)), np.int64)
        order = np.lexsort((events.time_us, events.entity))
        entity, time_us, amount = (column[order] for column in events[:3])
        columns = {each: events.columns[each][order] for each in self.inputs}
        moment = np.cumsum(np.concatenate(([True], _changes(entity, time_us))))
        starts = np.concatenate(([True], _changes(entity, time_us // self.levels[0])))
        before = np.maximum.accumulate(np.where(starts, np.arange(n), 0))  # first event of the same granule
        values: list[Ints] = []
        for window in self.windows:
            keys, _ = self._keys(entity, time_us, window.tile_us)
            low = np.searchsorted(keys, keys - window.us // window.tile_us, side="right")
            held = Range(time_us, moment, amount, columns, low, before)
            values += [column for aggregate in self._of(window) for column in aggregate.offline(held)]
        if self.fraud_windows:
            values += self._fraud_states(labels, entity, time_us)
        states = np.empty((n, len(values)), np.int64)
        states[order] = np.stack(values, axis=1)
        return states

    def _fraud_states(self, labels: Labels, entity: Ints, time_us: Ints) -> list[Ints]:
        size, frauds = self.fraud_windows[-1].tile_us, fraud_states(self.fraud_windows, labels, entity, time_us)
        keys, tile = self._keys(entity, time_us, size)
        delay = self.delay_us // size
        high = np.searchsorted(keys, keys - delay, side="left")
        values: list[Ints] = []
        for fraud, (count, amount) in zip(self.fraud_windows, frauds.sums, strict=True):
            low = np.searchsorted(keys, keys - delay - fraud.us // size, side="left")
            values += [high - low, count, amount]
        some, unit = frauds.last >= 0, self.fraud_windows[-1].edge_us
        ages = [time_us // unit - known * FIVE_MINUTES_US // unit for known in (frauds.first, frauds.last)]
        last = frauds.last * FIVE_MINUTES_US // size - tile  # in tiles after the current one
        after = high - np.minimum(np.searchsorted(keys, keys + last - delay, side="right"), high)
        return [*values, *(np.where(some, each, 0) for each in (*ages, after))]

    def _keys(self, entity: Ints, time_us: Ints, size: int) -> tuple[Ints, Ints]:
        """Entity and tile of each event as one number, such that no window reaches into the entity before."""
        tile = time_us // size
        spare = (self.lookback_us + self.delay_us) // size + 2
        return entity * (tile.max() - tile.min() + 2 * spare) + (tile - tile.min() + spare), tile


def _changes(*columns: Ints) -> NDArray[np.bool_]:
    """Where a value differs from the one before it, [n - 1]."""
    changes: NDArray[np.bool_] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changes
