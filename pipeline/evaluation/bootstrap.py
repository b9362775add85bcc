"""The paired bootstrap by day: how sure it is that one model is no worse than another.

Both models score the same rows. Whole days are drawn with replacement, as many as there are, and on every draw both
are measured on the same days; the differences of those measures are the bootstrap's distribution, and its percentiles
the interval. Days and not rows are drawn, because rows of a day are not independent: a stolen card makes many.

B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993: the paired comparison in chapter 8.3 (the unit
that is drawn must be the independent one), percentile intervals in chapter 13. A test of a week has 7 units, which
can be drawn in 1716 different ways: the intervals are coarse, and tend to be too narrow, by a factor of about
sqrt(6 / 7) for a mean. Longer tests (`split.test_days`) say more. A test of fewer than 5 days cannot be drawn by day;
its days are cut into stretches of as many rows each, which are less independent: the intervals are too narrow then.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dataset import Dataset
from pipeline.evaluation.threshold import costs_of
from processing.arrays import Floats
from processing.contract import Contract

Ints = NDArray[np.int64]

DRAWS = 2000
CHUNK = 250  # draws measured at once: bounds the memory
FEWEST_DAYS = 5  # that are drawn whole
FEWEST_UNITS = 10  # that shorter tests are cut into


@dataclass(frozen=True)
class Scored:
    """A model's scores on the rows of a test, [n], and the threshold it decides with."""

    score: Floats
    threshold: float


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion: as measured, and on every draw of days, [draws]."""

    measured: float
    draws: Floats

    def bounds(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper bound that hold with this confidence each (one-sided percentiles)."""
        low, high = np.quantile(self.draws, (1.0 - confidence, confidence))
        return float(low), float(high)


def paired_differences(
    rows: Dataset, challenger: Scored, champion: Scored, contract: Contract, seed: int = 0
) -> dict[str, Difference]:
    """The differences in `average_precision` and in `cost_per_day`, challenger minus champion.

    The same rows and seed give the same draws. A draw without any fraud counts as no difference in average precision.
    """
    unit = units(rows)
    many, days = int(unit.max()) + 1, len(np.unique(rows.day))
    drawn = np.random.default_rng(seed).multinomial(many, np.full(many, 1 / many), DRAWS)
    precisions, costs = [], []
    for one in (challenger, champion):
        above, caught, own = _ranks(rows.y == 1, one.score, unit)
        cost = np.bincount(unit, costs_of(rows.y, rows.amount, one.score, one.threshold, contract), many) / days
        precisions.append([_average_precision(above, caught, own, times) for times in (np.ones((1, many)), drawn)])
        costs.append([np.array([cost.sum()]), drawn @ cost])
    return {
        name: Difference(float((ours[0] - theirs[0])[0]), ours[1] - theirs[1])
        for name, (ours, theirs) in (("average_precision", precisions), ("cost_per_day", costs))
    }


def units(rows: Dataset) -> Ints:
    """Which unit of drawing every row belongs to, [n] from 0: its day, or a stretch of it where days are few."""
    day = np.unique(rows.day, return_inverse=True)[1].astype(np.int64)
    many = int(day.max()) + 1
    if many >= FEWEST_DAYS:
        return day
    parts = -(-FEWEST_UNITS // many)
    starts = np.searchsorted(day, np.arange(many))
    place, length = np.arange(rows.rows) - starts[day], np.bincount(day)[day]
    return np.unique(day * parts + place * parts // length, return_inverse=True)[1].astype(np.int64)


def _ranks(fraud: NDArray[np.bool_], score: Floats, unit: Ints) -> tuple[Floats, Floats, Ints]:
    """For every fraud, by unit: how many rows score as high or higher, how many frauds do; and the fraud's own unit."""
    own = score[fraud]
    above, caught = (np.empty((len(own), int(unit.max()) + 1)) for _ in range(2))
    for i in range(above.shape[1]):
        for table, chosen in ((above, unit == i), (caught, (unit == i) & fraud)):
            ranked = np.sort(score[chosen])
            table[:, i] = len(ranked) - np.searchsorted(ranked, own, side="left")
    return above, caught, unit[fraud]


def _average_precision(above: Floats, caught: Floats, own: Ints, drawn: NDArray[Any]) -> Floats:
    """The average precision on each of the draws [draws, units], as scikit-learn defines it.

    It is the mean, over the frauds, of the precision among what scores as high or higher; a unit drawn twice counts
    its rows twice. So two small tables of counts do for all draws, and no row is touched again.
    """
    found = []
    for start in range(0, len(drawn), CHUNK):
        times = drawn[start : start + CHUNK].T.astype(np.float64)
        higher, weight = above @ times, times[own]
        precision = np.divide(caught @ times, higher, out=np.zeros_like(higher), where=higher > 0)
        found.append((precision * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0))
    return np.concatenate(found)
