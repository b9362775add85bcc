"""What a window knows of an entity's earlier events: one small class for each aggregate.

An aggregate says which columns it needs in a tile, what one event puts there, and how the state of a window follows
from a merged tile (online) or from a range of sorted events (offline). Both give the same integers. "Earlier" events
are those before the event's own granule; the event itself never counts here.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from processing.arrays import Ints
from processing.features.aggregated_events import NAN_BITS, EventValues, Input, Range, square_limbs
from processing.features.ranges import count_distinct, count_equal, range_maximum, range_minimum
from processing.features.tiles import HASH_BYTES, MOST_DISTINCT, Column, Tile, distinct, latest, maximum, minimum, total


class Aggregate(ABC):
    """One aggregate of an entity. `longest_only` says that only the longest window has it."""

    longest_only = False

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The columns it reads beside time and amount."""
        return ()

    @property
    @abstractmethod
    def tile_columns(self) -> tuple[Column, ...]:
        """Its columns in a tile."""

    @abstractmethod
    def tile_of(self, event: EventValues) -> Tile:
        """The tile of a single event."""

    @abstractmethod
    def tiles_of(self, events: "Range") -> Sequence[Ints | list[bytes]]:
        """The tiles of single events, column by column, each [n]. Only its events are read, not its windows."""

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """The names of its values in the state of a window."""

    @abstractmethod
    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        """Its values for a window whose earlier events merge to `tile`."""

    @abstractmethod
    def offline(self, window: Range) -> Sequence[Ints]:
        """Its values for the windows of all events, each [n]."""


@dataclass(frozen=True)
class Count(Aggregate):
    """The number of earlier events."""

    tile_columns = (total("n"),)
    state_names = ("n",)

    def tile_of(self, event: EventValues) -> Tile:
        return (1,)

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        return [np.ones_like(events.amount)]

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        return tile

    def offline(self, window: Range) -> Sequence[Ints]:
        return [window.high - window.low]


@dataclass(frozen=True)
class Amount(Aggregate):
    """The sum of the amounts, and of their squares in limbs of LIMB bits: the sum over i of q<i> times 2^(27 i)."""

    tile_columns = tuple(total(name) for name in ("s", "q0", "q1", "q2"))
    state_names = ("s", "q0", "q1", "q2")

    def tile_of(self, event: EventValues) -> Tile:
        return (event.amount, *square_limbs(event.amount))

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        return [events.amount, *square_limbs(events.amount)]

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        return tile

    def offline(self, window: Range) -> Sequence[Ints]:
        return [window.total(values) for values in (window.amount, *square_limbs(window.amount))]


@dataclass(frozen=True)
class Extremes(Aggregate):
    """The smallest and the largest amount; 0 without events."""

    tile_columns = (minimum("least"), maximum("most"))
    state_names = ("least", "most")

    def tile_of(self, event: EventValues) -> Tile:
        return event.amount, event.amount

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        return [events.amount, events.amount]

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        return tile if tile[0] <= tile[1] else (0, 0)

    def offline(self, window: Range) -> Sequence[Ints]:
        return [each(window.amount, window.low, window.high) for each in (range_minimum, range_maximum)]


@dataclass(frozen=True)
class Recency(Aggregate):
    """The times of the first and the last event in the longest window, in microseconds since 1970; 0 without events."""

    longest_only = True
    tile_columns = (minimum("first_us"), maximum("last_us"))
    state_names = ("first_us", "last_us")

    def tile_of(self, event: EventValues) -> Tile:
        return event.time_us, event.time_us

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        return [events.time_us, events.time_us]

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        return tile if tile[0] <= tile[1] else (0, 0)

    def offline(self, window: Range) -> Sequence[Ints]:
        times = np.append(window.time_us, 0)
        return [np.where(window.some, times[index], 0) for index in (window.low, window.high - 1)]


@dataclass(frozen=True)
class Share(Aggregate):
    """How many events have the same value of a column as this one; `values` are those that it can have."""

    column: str
    values: tuple[str, ...]

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input("code", self.column),)

    @cached_property
    def tile_columns(self) -> tuple[Column, ...]:
        return tuple(total(f"{self.column}={value}") for value in self.values)  # whatever the order of the values

    def tile_of(self, event: EventValues) -> Tile:
        own = event.columns[self.inputs[0]]
        return tuple(int(code == own) for code in range(len(self.values)))

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        codes = events.columns[self.inputs[0]]
        return [(codes == code).astype(np.int64) for code in range(len(self.values))]

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        return (f"same_{self.column}",)

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        own = event.columns[self.inputs[0]]
        return [tile[own] if own >= 0 else 0]

    def offline(self, window: Range) -> Sequence[Ints]:
        codes = window.columns[self.inputs[0]]
        return [np.where(codes < 0, 0, count_equal(codes, codes, window.low, window.high))]


@dataclass(frozen=True)
class Distinct(Aggregate):
    """How many different values of a column there were: exact up to MOST_DISTINCT, one more if there were more."""

    column: str

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return (Input("hash", self.column),)

    @cached_property
    def tile_columns(self) -> tuple[Column, ...]:
        return (distinct(f"distinct_{self.column}"),)

    def tile_of(self, event: EventValues) -> Tile:
        return (struct.pack(">q", event.columns[self.inputs[0]]),)

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        return [[struct.pack(">q", each) for each in events.columns[self.inputs[0]].tolist()]]

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        return (f"distinct_{self.column}",)

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        return [len(tile[0]) // HASH_BYTES]

    def offline(self, window: Range) -> Sequence[Ints]:
        count = count_distinct(window.columns[self.inputs[0]], window.low, window.high)
        return [np.minimum(count, MOST_DISTINCT + 1)]


@dataclass(frozen=True)
class Last(Aggregate):
    """The values of columns at the last event of the longest window, as the bits of float64; of NaN without events.

    Of several events at the same microsecond, the one with the greatest bits counts, so that order does not matter.
    """

    columns: tuple[str, ...]
    longest_only = True

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input("bits", column) for column in self.columns)

    @cached_property
    def tile_columns(self) -> tuple[Column, ...]:
        return (latest("_".join(("last", *self.columns))),)

    def tile_of(self, event: EventValues) -> Tile:
        bits = (event.columns[each] for each in self.inputs)
        return (self._packed(event.time_us, *bits),)

    def tiles_of(self, events: Range) -> Sequence[Ints | list[bytes]]:
        bits = [events.columns[each].tolist() for each in self.inputs]
        return [list(map(self._packed, events.time_us.tolist(), *bits))]

    def _packed(self, *values: int) -> bytes:
        return struct.pack(f">q{len(self.columns)}q", *values)  # big-endian: the greatest bytes are the latest

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"last_{column}" for column in self.columns)

    def online(self, tile: Tile, event: EventValues) -> Sequence[int]:
        if not tile[0]:
            return [NAN_BITS] * len(self.columns)
        return struct.unpack(f">q{len(self.columns)}q", tile[0])[1:]

    def offline(self, window: Range) -> Sequence[Ints]:
        bits = [window.columns[each] for each in self.inputs]
        # Sorted by time already; only the events of one moment change places, which `high` never divides.
        order = np.lexsort((*(each.view(np.uint64) for each in reversed(bits)), window.moment))
        last = order[window.high - 1]
        return [np.where(window.some, each[last], NAN_BITS) for each in bits]
