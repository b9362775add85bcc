"""The frauds of one entity's key, each by itself: a report can repeat or take back what the tables say."""

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from processing.durations import FIVE_MINUTES_US
from processing.features.contract_windows import fraud_tile
from processing.features.fraud_windows import merge_fraud_tiles
from processing.features.tiles import FraudTile
from processing.features.windows import EntityWindows

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


class Frauds:
    """The frauds of the tables, and the labels reported since."""

    def __init__(self, settled: Iterable[Fraud] = (), reported: Iterable[Reported] = ()) -> None:
        self.settled = list(settled)
        self.reported = {each.id: each for each in reported}

    def report(self, label: Reported) -> None:
        """Note a label; the last one of a transaction counts."""
        self.reported[label.id] = label

    def holds(self, number: int, time_us: int, amount: int) -> bool:
        """Whether the tables say that a transaction is fraud. `number` is the hash of its id."""
        return any(each.id == number and each.time_us == time_us and each.amount == amount for each in self.settled)

    def tiles(self, windows: EntityWindows, start: int, end: int) -> list[FraudTile]:
        """The fraud tiles from `start` up to but not including `end`, oldest first."""
        known = [each for each in self.settled if each.id not in self.reported]
        known += [Fraud(*each[:3], 1, each.amount) for each in self.reported.values() if each.is_fraud]
        tiles = [FraudTile(self._tile(windows, each), each.frauds, each.amount) for each in known]
        return merge_fraud_tiles([each for each in tiles if start <= each.tile < end])

    @staticmethod
    def _tile(windows: EntityWindows, fraud: Fraud) -> int:
        return int(fraud_tile(windows, fraud.time_us, None if fraud.known_us == ASSUMED else fraud.known_us))

    def keep_from(self, time_us: int) -> None:
        """Drop the frauds of transactions before a time."""
        if self.settled and min(each.time_us for each in self.settled) < time_us:
            self.settled = [each for each in self.settled if each.time_us >= time_us]
        old = [each.id for each in self.reported.values() if each.time_us < time_us]
        for key in old:
            del self.reported[key]

    def arrays(self) -> "list[array[int]]":
        """All values as arrays: those of `settled` column by column, then those of `reported`."""
        return _columns(self.settled, Fraud) + _columns(list(self.reported.values()), Reported)

    @classmethod
    def of_arrays(cls, arrays: "list[array[int]]") -> "Frauds":
        """The frauds that gave `arrays`."""
        width = len(Fraud._fields)
        settled = map(Fraud, *arrays[:width])
        return cls(settled, map(Reported, *arrays[width:]))


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


def _columns(rows: "list[Fraud] | list[Reported]", kind: type[Fraud] | type[Reported]) -> "list[array[int]]":
    return [array("q", [row[index] for row in rows]) for index in range(len(kind._fields))]
