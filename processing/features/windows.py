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

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Ints
from processing.durations import FIVE_MINUTES_US
from processing.features.aggregated_events import Input, Range
from processing.features.fraud_windows import Labels, fraud_states
from processing.features.online_windows import OnlineWindows
from processing.features.tiles import merge_runs


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


class EntityWindows(OnlineWindows):
    """The windows of one entity: offline for all events here, online for one in `OnlineWindows`."""

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
            values += [column for aggregate in self.aggregates_of(window) for column in aggregate.offline(held)]
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
