"""The online half of `EntityWindows`: the state of one event from the tiles of its entity."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise

from processing.durations import FIVE_MINUTES_US
from processing.features.aggregated_events import EventValues
from processing.features.aggregates import Aggregate
from processing.features.fraud_windows import FraudState, fraud_state
from processing.features.tiles import EntityTiles, Merge, Tile, TileRange, empty_tile, merge_two
from processing.features.window_layout import Window, WindowLayout


class OnlineWindows(WindowLayout):
    """Windows whose state can be computed for one event after another."""

    def state_at(self, event: EventValues, tiles: EntityTiles) -> list[int]:
        """The state of one event's entity, in the order of `state_names`. `tiles` need not hold the event itself."""
        time_us = event.time_us
        frauds = fraud_state(self.fraud_windows, time_us, tiles) if self.fraud_windows else None
        since = self._merged_since(time_us, self._edges(time_us, frauds), tiles)
        near, nears = self._nothing, []
        for level in range(len(self.levels)):
            nears.append(near)
            if level < len(self.levels) - 1:
                near = merge_two(self._merges, since[level][self._near(time_us, level)], near)
        state: list[int] = []
        for level, window, aggregates in self._parts:
            merged = merge_two(self._merges, since[level][window.first_tile(time_us)], nears[level])
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
        edges = []
        for level, (size, offsets) in enumerate(zip(self.levels, self._offsets, strict=True)):
            now = time_us // size
            edges.append({now + offset for offset in offsets})
            if level < len(self.levels) - 1:
                edges[level].add(self._near(time_us, level))
        if frauds and frauds.last is not None:
            edges[self._fraud_level].add(self._after(frauds.last, self._judged_end(time_us)))
        return edges

    @cached_property
    def _offsets(self) -> list[set[int]]:
        """For each level, how far from the current tile windows and what frauds are divided by begin and end."""
        offsets: list[set[int]] = [set() for _ in self.levels]
        for window in self.windows:
            offsets[self.levels.index(window.tile_us)].add(window.first_tile(0))
        for fraud in self.fraud_windows:
            end = self._judged_end(0)
            offsets[self._fraud_level] |= {end, end - fraud.us // fraud.tile_us}
        return offsets

    def _merged_since(self, time_us: int, edges: Sequence[set[int]], tiles: EntityTiles) -> list[dict[int, Tile]]:
        """For each level, all tiles from each edge up to the current tile, merged."""
        ranges = []
        for level, (size, some) in enumerate(zip(self.levels, edges, strict=True)):
            ends = sorted(some | {time_us // size}, reverse=True)
            ranges += [TileRange(level, start, end) for end, start in pairwise(ends)]
        since: list[dict[int, Tile]] = [{time_us // size: self._nothing} for size in self.levels]
        for (level, start, end), merged in zip(ranges, tiles.merged(ranges), strict=True):
            since[level][start] = merge_two(self._merges, since[level][end], merged)
        return since

    @cached_property
    def _merges(self) -> list[Merge]:
        return [column.merge for column in self.tile_columns]

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
            (self.levels.index(window.tile_us), window, [(each, places[each]) for each in self.aggregates_of(window)])
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
