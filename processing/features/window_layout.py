"""What the windows of an entity consist of: their tiles, the columns of a tile, and the names of their state."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, SECOND_US
from processing.features.aggregated_events import EventValues, Input
from processing.features.aggregates import Aggregate
from processing.features.fraud_windows import FraudWindow
from processing.features.tiles import Column, Tile

FINEST_LEVELS = (FIVE_MINUTES_US, HOUR_US, DAY_US)


class Window(NamedTuple):
    """A window: its name in features, its length and the size of its tiles in microseconds."""

    name: str
    us: int
    tile_us: int

    def first_tile(self, time_us: int) -> int:
        """The number of the first tile that it holds at a time."""
        return (time_us - self.us) // self.tile_us + 1


@dataclass(frozen=True)
class WindowLayout:
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
            for aggregate in self.aggregates_of(window)
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

    @cached_property
    def fraud_reach_us(self) -> int:
        """How long before an event the transaction of a fraud may be that its windows hold; 0 without fraud windows."""
        return max((self.delay_us + fraud.us for fraud in self.fraud_windows), default=0)

    @property
    def lookback_us(self) -> int:
        """How long before an event another one can still change its state."""
        return max(tiles * size + size for tiles, size in zip(self.reach, self.levels, strict=True))

    def tile_of(self, event: EventValues) -> Tile:
        """The tile of a single event."""
        return tuple(value for aggregate in self.aggregates for value in aggregate.tile_of(event))

    def aggregates_of(self, window: Window) -> list[Aggregate]:
        """What is aggregated over a window."""
        longest = window == self.windows[-1]
        return [aggregate for aggregate in self.aggregates if longest or not aggregate.longest_only]
