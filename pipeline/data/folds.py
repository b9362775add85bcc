"""Folds: weeks to be judged on, each with the training history that would have been at hand before it.

A fold is prequential, as in use: the model learns from days that end a label delay before the test begins, and is
tested on the days after. Nothing of a test week, nor of the delay before it, takes part in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.data.dataset import Dataset, Ints
from processing.contract import Contract


@dataclass(frozen=True)
class Fold:
    """A test of some days. All days are UTC days since 1970.

    test: the days to be judged on
    delay_days: how many days before the test are left out of training
    known_since: from this day on a fraud makes its card known, once the delay is over; transactions of known cards
        are left out of the test. None leaves all in.
    """

    test: range
    delay_days: int
    known_since: int | None = None

    @property
    def train_end(self) -> int:
        """The first day that is too late to learn from."""
        return self.test.start - self.delay_days

    def train(self, rows: Dataset, history_days: int) -> Dataset:
        """What there is to learn from: the last `history_days` days before the delay."""
        start, end = np.searchsorted(rows.day, [self.train_end - history_days, self.train_end])
        return rows.part(slice(int(start), int(end)))

    def test_rows(self, rows: Dataset, card: str | None) -> Ints:
        """The places of the rows to be judged on; `card` is the name of the entity that is blocked when known."""
        places = np.arange(*np.searchsorted(rows.day, [self.test.start, self.test.stop]))
        if self.known_since is None or card is None:
            return places
        cards = rows.entities[card]
        kept = []
        for day in self.test:
            today = places[rows.day[places] == day]
            start, end = np.searchsorted(rows.day, [self.known_since, day - self.delay_days])
            known = cards[start:end][rows.y[start:end] == 1]
            kept.append(today[~np.isin(cards[today], known)])
        return np.concatenate(kept)


def last_weeks(before: int, contract: Contract, count: int) -> Iterator[Fold]:
    """`count` folds of the contract's test length and label delay, one after the other; the last ends before `before`.

    Oldest first.
    """
    for back in range(count, 0, -1):
        start = before - back * contract.test_days
        yield Fold(range(start, start + contract.test_days), contract.label_delay_days)
