"""Events as aggregates see them: single ones, ranges of sorted ones, and how their values become integers."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from processing.arrays import Ints
from processing.features.ranges import running_sums
from processing.features.tiles import HASH_BYTES

LIMB = 27  # bits: 2^36 events fit into a column of limbs, and amounts up to 10^12 into three limbs of their squares
NAN_BITS = int(np.array(np.nan).view(np.int64))


class EventValues(NamedTuple):
    """What an event contributes: `columns` are encoded as an aggregate's `inputs` say."""

    time_us: int
    amount: int  # minor units
    columns: Mapping["Input", int]


class Input(NamedTuple):
    """A column of the transactions, encoded as an integer.

    encoding: "code": its position in the contract's list of values, -1 if missing or unlisted; "hash": a hash of its
        text; "bits": the bits of its float64 value
    """

    encoding: str
    column: str


class Range(NamedTuple):
    """Ranges of events, sorted by time within each entity, that the windows of some events hold.

    time_us, amount, columns: of all events, [n]
    moment: numbers the distinct times of each entity in order, [n]
    low, high: the window of event i holds the events from low[i] up to but not including high[i], [n]
    """

    time_us: Ints
    moment: Ints
    amount: Ints
    columns: Mapping[Input, Ints]
    low: Ints
    high: Ints

    @property
    def some(self) -> Any:
        """Which windows hold an event, [n] bool."""
        return self.high > self.low

    def total(self, values: Ints) -> Ints:
        """The sums of `values` over the windows, [n]."""
        sums = running_sums(values)
        return sums[self.high] - sums[self.low]


def square_limbs(amount: Any) -> tuple[Any, Any, Any]:
    """The square of an amount, or of each amount of an array, as limbs: q0 + q1 * 2^27 + q2 * 2^54.

    Every intermediate value fits into 64 bits for amounts up to 10^12.
    """
    size = abs(amount)
    high, low = size >> 20, size & 0xFFFFF
    middle = 2 * high * low * 2**20 + low * low  # the square less high^2 * 2^40
    mask = 2**LIMB - 1
    rest = (middle >> LIMB) + high * high * 2 ** (40 - LIMB)
    return middle & mask, rest & mask, rest >> LIMB


def text_hash(text: str | None) -> int:
    """A hash of a text that is the same everywhere, from 0 to 2^63 - 1."""
    data = b"" if text is None else b"\x00" + text.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=HASH_BYTES).digest()) >> 1


def float_bits(value: float) -> int:
    """The bits of a float64 as an integer; one pattern for every NaN."""
    return NAN_BITS if value != value else int(struct.unpack("<q", struct.pack("<d", value))[0])
