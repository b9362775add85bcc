"""The paired bootstrap by day: how certain it is that one model is no worse than another.

Both models score the same rows. Each draw takes as many whole days as there are, with replacement, and measures both
models on the same days; the differences are the bootstrap's distribution, and its percentiles the interval. Days are
drawn, not rows, because the rows of a day are not independent: a stolen card makes many.

B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993: the paired comparison in chapter 8.3 (the unit
that is drawn must be the independent one), percentile intervals in chapter 13. A test of a week has 7 units, which can
be drawn in 1716 different ways: the intervals are coarse, and tend to be too narrow, by a factor of about sqrt(6 / 7)
for a mean. Longer tests (`split.test_days`) are more precise. A test of fewer than 5 days cannot be drawn by day. Its
days are cut into parts of equally many rows, which are less independent, so the intervals are too narrow.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dataset import Dataset
from pipeline.evaluation.threshold import costs_of
from processing.arrays import Floats, Ints
from processing.contract import Contract

DRAWS = 2000
CHUNK = 250  # draws measured at once, to bound the memory
FEWEST_DAYS = 5  # a test of fewer days is not drawn by whole days
FEWEST_UNITS = 10  # into which a shorter test is cut


@dataclass(frozen=True)
class ModelScores:
    """A model's scores on test rows, [n], and the threshold it decides with."""

    score: Floats
    threshold: float


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion: on all rows, and on every draw of days, [draws]."""

    measured: float
    draws: Floats

    def bounds(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper bound; each holds with this confidence (one-sided percentiles)."""
        low, high = np.quantile(self.draws, (1.0 - confidence, confidence))
        return float(low), float(high)


def paired_differences(
    rows: Dataset, challenger: ModelScores, champion: ModelScores, contract: Contract, seed: int = 0
) -> dict[str, Difference]:
    """The differences in `average_precision` and `cost_per_day`, challenger minus champion.

    The same rows and seed give the same draws. A draw without frauds counts as no difference in average precision.
    """
    unit = units(rows)
    count, days = int(unit.max()) + 1, len(np.unique(rows.day))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    precisions, costs = [], []
    for one in (challenger, champion):
        above, caught, own = _ranks(rows.y == 1, one.score, unit)
        cost = np.bincount(unit, costs_of(rows.y, rows.amount, one.score, one.threshold, contract), count) / days
        precisions.append([_average_precision(above, caught, own, times) for times in (np.ones((1, count)), drawn)])
        costs.append([np.array([cost.sum()]), drawn @ cost])
    return {
        name: Difference(float((ours[0] - theirs[0])[0]), ours[1] - theirs[1])
        for name, (ours, theirs) in (("average_precision", precisions), ("cost_per_day", costs))
    }


def units(rows: Dataset) -> Ints:
    """The unit of drawing of every row, [n] from 0: its day, or a part of it if there are few days."""
    day = np.unique(rows.day, return_inverse=True)[1].astype(np.int64)
    days = int(day.max()) + 1
    if days >= FEWEST_DAYS:
        return day
    parts = -(-FEWEST_UNITS // days)
    starts = np.searchsorted(day, np.arange(days))
    position, length = np.arange(rows.rows) - starts[day], np.bincount(day)[day]
    return np.unique(day * parts + position * parts // length, return_inverse=True)[1].astype(np.int64)


def _ranks(fraud: NDArray[np.bool_], score: Floats, unit: Ints) -> tuple[Floats, Floats, Ints]:
    """For every fraud: by unit, how many rows and how many frauds score at least as high; and the fraud's own unit."""
    own = score[fraud]
    above, caught = (np.empty((len(own), int(unit.max()) + 1)) for _ in range(2))
    for i in range(above.shape[1]):
        for table, chosen in ((above, unit == i), (caught, (unit == i) & fraud)):
            ranked = np.sort(score[chosen])
            table[:, i] = len(ranked) - np.searchsorted(ranked, own, side="left")
    return above, caught, unit[fraud]


def _average_precision(above: Floats, caught: Floats, own: Ints, drawn: NDArray[Any]) -> Floats:
    """The average precision on each of the draws [draws, units], as scikit-learn defines it.

    It is the mean over the frauds of the precision among the rows that score at least as high; a unit drawn twice
    counts its rows twice. So two small tables of counts suffice for all draws, and the rows are read only once.
    """
    parts = []
    for start in range(0, len(drawn), CHUNK):
        times = drawn[start : start + CHUNK].T.astype(np.float64)
        higher, weight = above @ times, times[own]
        precision = np.divide(caught @ times, higher, out=np.zeros_like(higher), where=higher > 0)
        parts.append((precision * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0))
    return np.concatenate(parts)
