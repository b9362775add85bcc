"""Folds: test weeks, each with the training history that would have been available before it.

A fold is prequential, as in service: the model learns from days that end a label delay before the test begins. Neither
the test week nor the delay before it takes part in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.data.dataset import Dataset
from processing.arrays import Ints
from processing.contract import Contract
from processing.errors import BadInput


@dataclass(frozen=True)
class Fold:
    """A test on some days, which are UTC days since 1970.

    test: the days of the test
    delay_days: how many days before the test are left out of training
    known_since: from this day on, a fraud makes its card known once the delay is over, and transactions of known cards
        are left out of the test. None keeps them all.
    """

    test: range
    delay_days: int
    known_since: int | None = None

    @property
    def train_end(self) -> int:
        """The first day that is too late for training."""
        return self.test.start - self.delay_days

    def train(self, rows: Dataset, history_days: int) -> Dataset:
        """The training rows: the last `history_days` days before the delay."""
        return _days(rows, range(self.train_end - history_days, self.train_end))

    def learnable(self, rows: Dataset, history_days: int) -> bool:
        """Whether there are frauds and legitimate transactions, both to train and to test on."""
        return self.train(rows, history_days).learnable and _days(rows, self.test).learnable

    def test_rows(self, rows: Dataset, card: str | None) -> Ints:
        """The indices of the test rows. `card` is the name of the entity that is blocked once it is known."""
        indices = np.arange(*np.searchsorted(rows.day, [self.test.start, self.test.stop]))
        if self.known_since is None or card is None:
            return indices
        cards = rows.entities[card]
        parts = []
        for day in self.test:
            today = indices[rows.day[indices] == day]
            start, end = np.searchsorted(rows.day, [self.known_since, day - self.delay_days])
            known = cards[start:end][rows.y[start:end] == 1]
            parts.append(today[~np.isin(cards[today], known)])
        return np.concatenate(parts)


def last_weeks(before: int, contract: Contract, count: int) -> Iterator[Fold]:
    """`count` consecutive folds with the contract's test length and label delay, oldest first; the last ends before
    the day `before`.
    """
    for back in range(count, 0, -1):
        start = before - back * contract.test_days
        yield Fold(range(start, start + contract.test_days), contract.label_delay_days)


def usable_weeks(rows: Dataset, before: int, contract: Contract, count: int) -> list[Fold]:
    """Those of `last_weeks` that have frauds and legitimate transactions both to train and to test on.

    Raises BadInput if there are none.
    """
    folds = [fold for fold in last_weeks(before, contract, count) if fold.learnable(rows, contract.train_days)]
    if not folds:
        raise BadInput(
            f"the rows from {rows.period} make no validation fold, which needs {contract.test_days} days to test on "
            f"and, at least {contract.label_delay_days} days earlier, days to train on, each with frauds and "
            "legitimate transactions; add older files"
        )
    return folds


def _days(rows: Dataset, days: range) -> Dataset:
    start, end = np.searchsorted(rows.day, [days.start, days.stop])
    return rows.part(slice(int(start), int(end)))
