"""The profile of one entity's key: its tiles of every size and its frauds, from which all its windows are computed.

The refresh *settles* a profile: it sets the tiles of all transactions before a horizon. The API *counts* each later
transaction in tiles beside them. Tiles that no window can reach any more are dropped, so a profile stays small.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from processing.durations import DAY_US, HOUR_US
from processing.features.fraud_windows import merge_fraud_tiles
from processing.features.state_plan import EntityEvent
from processing.features.tiles import FraudTile, Tile, TileRange
from processing.features.windows import EntityWindows
from processing.store.profiles.frauds import Frauds, Reported
from processing.store.profiles.layout import Layout, places_of
from processing.store.profiles.settled_tiles import SettledTiles
from processing.store.profiles.tile_list import TileList, merge_range


class Counted(NamedTuple):
    """A transaction as the profile of one entity's key counts it."""

    entity: str
    key: str
    time_us: int
    amount: int
    id: int  # a hash of the transaction's id, not 0
    tile: Tile  # of this transaction alone, in the order of the layout's columns


class Profile:
    """The tiles and frauds of one entity's key.

    horizon_us: `settled` holds the transactions before it, `live` those from it on
    """

    def __init__(self, layout: Layout, horizon_us: int = 0) -> None:
        self.layout, self.horizon_us = layout, horizon_us
        self.settled = SettledTiles(layout)
        self.live: dict[int, TileList] = {}  # by size
        self.frauds = Frauds()

    @property
    def newest_us(self) -> int:
        """When the newest of its largest tiles ends; 0 if it has none."""
        ends = [(each.numbers[-1] + 1) * size for size, each in self.live.items() if each]
        return max([self.settled.newest_us, *ends])

    def count(self, event: Counted) -> bool:
        """Count a transaction, unless it is dated before the horizon: only a run knows whether the tables have it.

        Returns whether it is counted.
        """
        if event.time_us < self.horizon_us:
            return False
        for size in self.layout.kept_us:
            self._live_of(size).add(event.time_us // size, event.tile)
        return True

    def _live_of(self, size: int) -> TileList:
        if size not in self.live:
            self.live[size] = TileList(self.layout.columns)
        return self.live[size]

    def report(self, event: Counted, is_fraud: bool, known_us: int) -> None:
        """Note the label of a transaction that is counted here; the last one counts. See `frauds` for `known_us`."""
        self.frauds.report(Reported(event.id, event.time_us, known_us, event.amount, int(is_fraud)))

    def settle(self, settled: "Profile", live: Iterable[Counted] | None = None) -> None:
        """Take from another profile what the tables say of all transactions before its horizon.

        Of the transactions counted here, those from that horizon on stay counted, unless `live` replaces them. Reported
        labels are forgotten: the caller reports anew what was reported after the tables were read.
        """
        if settled.horizon_us < self.horizon_us:
            live = live or ()
        self.settled, self.frauds, self.horizon_us = settled.settled, settled.frauds, settled.horizon_us
        if live is None:
            _cut(self.live, self.horizon_us)
        else:
            self.count_anew(live)

    def count_anew(self, live: Iterable[Counted]) -> None:
        """Count these transactions from the horizon on, instead of those that are counted."""
        self.live = {}
        for event in live:
            self.count(event)

    def absorb(self, other: "Profile") -> None:
        """Count all that another profile of this key has counted, too."""
        for size, tiles in other.live.items():
            for index, number in enumerate(tiles.numbers):
                self._live_of(size).add(number, tiles.tile(index))
        for label in other.frauds.reported.values():
            self.frauds.report(label)

    def prune(self, now_us: int) -> None:
        """Drop what no window of a transaction at that time, or as much earlier as the layout allows, can reach.

        Settled tiles stay until the next refresh.
        """
        for size, tiles in self.live.items():
            tiles.keep_from((now_us - self.layout.kept_us[size]) // size)
        self.frauds.keep_from(now_us - self.layout.frauds_kept_us)


def _cut(live: dict[int, TileList], horizon_us: int) -> None:
    """Drop the tiles before a horizon. The day in which it lies keeps its hours from the horizon on."""
    for size, tiles in live.items():
        tiles.keep_from(horizon_us // size)
    if DAY_US in live and HOUR_US in live and horizon_us % DAY_US:
        day = horizon_us // DAY_US
        days, hours = live[DAY_US], live[HOUR_US]
        if days.numbers and days.numbers[0] == day:
            days.keep_from(day + 1)
            for index, hour in enumerate(hours.numbers):
                if hour * HOUR_US // DAY_US == day:
                    days.add(day, hours.tile(index))


class ProfileTiles:
    """The tiles that some profiles of one key hold together: see `processing.features.tiles.EntityTiles`."""

    def __init__(self, windows: EntityWindows, profiles: Sequence[Profile]) -> None:
        self.windows, self.profiles = windows, profiles

    def merged(self, ranges: Sequence[TileRange]) -> list[Tile]:
        levels = self.windows.levels
        held = [tiles for profile in self.profiles for tiles in (profile.settled.tiles, profile.live) if tiles]
        parts = {
            size: [tiles[size] for tiles in held if size in tiles] for size in {levels[each.level] for each in ranges}
        }
        places = places_of(self.profiles[0].layout.columns, self.windows.tile_columns)
        return [merge_range(parts[levels[level]], start, end, places) for level, start, end in ranges]

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        found = [each for profile in self.profiles for each in profile.frauds.tiles(self.windows, start, end)]
        return merge_fraud_tiles(found) if len(self.profiles) > 1 else found


def state_of(event: EntityEvent, profiles: Sequence[Profile]) -> list[int]:
    """The state of an event's entity from the profiles of its key: one, or all shards of a busy one."""
    return event.windows.state_at(event.values, ProfileTiles(event.windows, profiles))
