"""The frauds of one entity's key, each by itself: a report can repeat or take back what the tables say."""

import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple, TypeVar

from processing.durations import FIVE_MINUTES_US
from processing.features.contract_windows import fraud_tile
from processing.features.fraud_windows import merge_fraud_tiles
from processing.features.tiles import FraudTile
from processing.features.windows import EntityWindows
from processing.store.profiles.packed_tiles import COMPRESSION, decompress, integers_of, planes

ASSUMED = -1  # known_us of a label without a recorded time: known a label delay after the transaction
MANY = 0  # id of frauds that are counted together
MOST = 1_000  # frauds of a key that are held one by one


class Fraud(NamedTuple):
    """A fraud, or several of the same five minutes. Times are in microseconds since 1970."""

    id: int  # a hash of the transaction's id, not 0; MANY for several
    time_us: int
    known_us: int  # or ASSUMED
    frauds: int
    amount: int  # in minor units


class Reported(NamedTuple):
    """A label that was reported since the tables were read."""

    id: int
    time_us: int
    known_us: int
    amount: int
    is_fraud: int


Row = TypeVar("Row", Fraud, Reported)


class Frauds:
    """The frauds of the tables, and the labels reported since."""

    def __init__(self, settled: Iterable[Fraud] = (), reported: Iterable[Reported] = ()) -> None:
        self.settled = list(settled)
        self.reported = {each.id: each for each in reported}
        self._data: bytes | None = None  # all of it packed

    def report(self, label: Reported) -> None:
        """Note a label; the last one of a transaction counts."""
        self.reported[label.id], self._data = label, None

    def forget(self, number: int) -> None:
        """Forget the label that was reported of a transaction. `number` is the hash of its id."""
        if self.reported.pop(number, None):
            self._data = None

    def holds(self, number: int, time_us: int, amount: int) -> bool:
        """Whether the tables say that a transaction is fraud. `number` is the hash of its id."""
        return any(each.id == number and each.time_us == time_us and each.amount == amount for each in self.settled)

    def tiles(self, windows: EntityWindows, start: int, end: int) -> list[FraudTile]:
        """The fraud tiles from `start` up to but not including `end`, oldest first."""
        known = [each for each in self.settled if not self._is_reported(each)]
        known += [Fraud(*each[:3], 1, each.amount) for each in self.reported.values() if each.is_fraud]
        tiles = [FraudTile(self._tile(windows, each), each.frauds, each.amount) for each in known]
        return merge_fraud_tiles([each for each in tiles if start <= each.tile < end])

    def _is_reported(self, fraud: Fraud) -> bool:
        """Whether the label of this transaction was reported; one with another content may have its id."""
        label = self.reported.get(fraud.id)
        return label is not None and (label.time_us, label.amount) == (fraud.time_us, fraud.amount)

    @staticmethod
    def _tile(windows: EntityWindows, fraud: Fraud) -> int:
        return int(fraud_tile(windows, fraud.time_us, None if fraud.known_us == ASSUMED else fraud.known_us))

    def keep_from(self, time_us: int) -> None:
        """Drop the frauds of transactions before a time."""
        if self.settled and min(each.time_us for each in self.settled) < time_us:
            self.settled, self._data = [each for each in self.settled if each.time_us >= time_us], None
        for number in [each.id for each in self.reported.values() if each.time_us < time_us]:
            self.forget(number)

    def packed(self) -> bytes:
        """All of it as bytes: the number of those in the tables, then all values, compressed; b"" if there is none."""
        if self._data is None:
            rows = (*self.settled, *self.reported.values())
            values = array("q", [len(self.settled), *chain.from_iterable(rows)])
            self._data = zlib.compress(planes(values.tobytes()), COMPRESSION) if rows else b""
        return self._data

    @classmethod
    def unpack(cls, data: bytes) -> "Frauds":
        """The frauds that gave `packed`. Raises Damaged."""
        values = integers_of(decompress(data))
        end = 1 + values[0] * len(Fraud._fields)
        frauds = cls(_rows(Fraud, values[1:end]), _rows(Reported, values[end:]))
        frauds._data = data
        return frauds


def bounded(frauds: list[Fraud]) -> list[Fraud]:
    """The frauds, of which the newest MOST stay by themselves, and older ones are counted in five minutes together.

    Until the next refresh a report cannot take one of those back.
    """
    if len(frauds) <= MOST:
        return frauds
    ordered = sorted(frauds, key=lambda each: each.time_us)
    sums: dict[tuple[int, int], tuple[int, int]] = {}
    for each in ordered[:-MOST]:
        known = each.known_us if each.known_us == ASSUMED else each.known_us // FIVE_MINUTES_US * FIVE_MINUTES_US
        place = (each.time_us // FIVE_MINUTES_US * FIVE_MINUTES_US, known)
        count, amount = sums.get(place, (0, 0))
        sums[place] = count + each.frauds, amount + each.amount
    return [*(Fraud(MANY, *place, *both) for place, both in sums.items()), *ordered[-MOST:]]


def _rows(kind: type[Row], values: "array[int]") -> "Iterator[Row]":
    width = len(kind._fields)
    return map(kind, *(values[place::width] for place in range(width)))
