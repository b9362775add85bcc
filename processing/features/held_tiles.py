"""Tiles of one entity's key held in memory."""

from collections.abc import Iterable, Mapping, Sequence

from processing.features.fraud_windows import merge_fraud_tiles
from processing.features.tiles import Column, FraudTile, Tile, TileRange, merge_tiles


class HeldTiles:
    """See EntityTiles. `tiles` holds, for each level, the tiles by their numbers."""

    def __init__(
        self, columns: Sequence[Column], tiles: Sequence[Mapping[int, Tile]], frauds: Iterable[FraudTile]
    ) -> None:
        self.columns, self.tiles, self.known = columns, tiles, merge_fraud_tiles(list(frauds))

    def merged(self, ranges: Sequence[TileRange]) -> list[Tile]:
        return [
            merge_tiles(self.columns, (tile for number, tile in self.tiles[level].items() if start <= number < end))
            for level, start, end in ranges
        ]

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        return [each for each in self.known if start <= each.tile < end]
