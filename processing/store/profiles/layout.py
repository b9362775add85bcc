"""What profiles keep of each entity: all that the home's contract needs, and the contracts of models that may serve."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US
from processing.features.tiles import Column
from processing.features.windows import EntityWindows

# How much longer than a window reaches tiles are kept, so that a late transaction has its windows, too.
SPARE_US = {FIVE_MINUTES_US: DAY_US, HOUR_US: DAY_US, DAY_US: 2 * DAY_US}
GRANULES_SPARE_US = HOUR_US
# A refresh needs the hours of the day in which its horizon lies, which may be so old.
HOURS_KEPT_US = 11 * DAY_US


@dataclass(frozen=True, eq=False)
class Layout:
    """What the profiles of one entity keep.

    windows: of all contracts
    """

    entity: str
    windows: tuple[EntityWindows, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a tile; the first is the number of events."""
        return tuple(dict.fromkeys(column for windows in self.windows for column in windows.tile_columns))

    @cached_property
    def kept_us(self) -> Mapping[int, int]:
        """How long tiles of each size are kept, by the size, smallest first; in microseconds."""
        kept: dict[int, int] = {}
        for windows in self.windows:
            for size, reach in zip(windows.levels, windows.reach, strict=True):
                longest = (reach + 1) * size + SPARE_US.get(size, GRANULES_SPARE_US)
                kept[size] = max(longest, kept.get(size, 0))
        if DAY_US in kept:
            kept[HOUR_US] = max(kept[HOUR_US], HOURS_KEPT_US)
        return dict(sorted(kept.items()))

    @cached_property
    def frauds_kept_us(self) -> int:
        """How long frauds are kept after their transactions, in microseconds; 0 if none are needed."""
        reach = max(windows.fraud_reach_us for windows in self.windows)
        return reach + SPARE_US[DAY_US] if reach else 0


@functools.lru_cache(1_000)
def places_of(columns: tuple[Column, ...], wanted: tuple[Column, ...]) -> Sequence[tuple[int, Column]]:
    """For each wanted column its index among the columns of a layout, and the column."""
    return [(columns.index(column), column) for column in wanted]
