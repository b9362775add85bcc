"""Tiles of one entity's key held in memory, as a store would hold them: see EntityTiles."""

from collections.abc import Iterable, Sequence
from functools import partial, reduce

from processing.features.aggregated_events import EventValues
from processing.features.fraud_windows import merge_fraud_tiles
from processing.features.tiles import Column, FraudTile, Tile, TileRange, empty_tile, merge_two
from processing.features.windows import EntityWindows


def merge_tiles(columns: Sequence[Column], tiles: Iterable[Tile]) -> Tile:
    """Tiles merged into one; the tile without events if there are none."""
    merges = [column.merge for column in columns]
    return reduce(partial(merge_two, merges), tiles, empty_tile(columns))


class HeldTiles:
    """The tiles of some events, one for each level and number, and frauds by the time they became known."""

    def __init__(self, windows: EntityWindows, events: Iterable[EventValues], frauds: Iterable[FraudTile]) -> None:
        self.columns, self.known = windows.tile_columns, merge_fraud_tiles(list(frauds))
        self.tiles: list[dict[int, Tile]] = [{} for _ in windows.levels]
        for event in events:
            for tiles, size in zip(self.tiles, windows.levels, strict=True):
                number, tile = event.time_us // size, windows.tile_of(event)
                tiles[number] = merge_tiles(self.columns, [tiles[number], tile]) if number in tiles else tile

    def merged(self, ranges: Sequence[TileRange]) -> list[Tile]:
        return [
            merge_tiles(self.columns, (tile for number, tile in self.tiles[level].items() if start <= number < end))
            for level, start, end in ranges
        ]

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        return [each for each in self.known if start <= each.tile < end]
