"""The tiles that a refresh settled. They stay as they are until the next one, so most are never packed again."""

from collections.abc import Mapping

from processing.store.profiles.layout import Layout
from processing.store.profiles.packed_tiles import pack_tiles, unpack_tiles
from processing.store.profiles.tile_list import TileList


class SettledTiles:
    """Tiles of all sizes, unpacked when they are first needed.

    newest_us: when the newest of them ends; 0 if there is none
    """

    def __init__(self, layout: Layout, data: bytes = b"", newest_us: int = 0) -> None:
        self._layout, self._data, self.newest_us = layout, data, newest_us
        self._tiles: Mapping[int, TileList] | None = None

    @classmethod
    def of(cls, layout: Layout, tiles: Mapping[int, TileList]) -> "SettledTiles":
        """Those in memory. They must not change any more."""
        ends = [(each.numbers[-1] + 1) * size for size, each in tiles.items() if each]
        return cls(layout, pack_tiles(layout, tiles), max(ends, default=0))

    @property
    def data(self) -> bytes:
        """As bytes."""
        return self._data

    @property
    def tiles(self) -> Mapping[int, TileList]:
        """By size; only sizes that have any. Raises Damaged."""
        if self._tiles is None:
            self._tiles = unpack_tiles(self._layout, self._data)
        return self._tiles
