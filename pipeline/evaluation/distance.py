"""Measures of how far two histograms over the same bins lie apart, and what a distance means.

To add a measure, write a function of two histograms' counts and list it in MEASURES: `fraudline drift`, its JSON and
its page show every measure in that table. Only the population stability index (PSI) decides what counts as drift.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from processing.arrays import Ints

Counts = Sequence[int] | Ints

# N. Siddiqi, "Credit Risk Scorecards", 2006: a PSI below 0.1 means no change, one of 0.25 or more a large change.
MODERATE_PSI, LARGE_PSI = 0.1, 0.25


def divergence(one: Counts, other: Counts) -> float:
    """The symmetric divergence: sum of (p - q) ln(p / q).

    Between two periods it is the population stability index, between fraud and legitimate rows the information value
    (N. Siddiqi, "Credit Risk Scorecards", 2006). Half a count is added to every bin, so that an empty bin does not make
    it infinite.
    """
    p, q = (np.asarray(counts, np.float64) + 0.5 for counts in (one, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def kolmogorov_smirnov(one: Counts, other: Counts) -> float:
    """The Kolmogorov-Smirnov distance at the bins' edges, missing values last; a lower bound of the exact distance."""
    p, q = (np.cumsum(counts) / max(1, np.sum(counts)) for counts in (one, other))
    return float(np.abs(p - q).max())


class Measure(NamedTuple):
    """A distance as pages show it."""

    label: str
    explanation: str
    distance: Callable[[Counts, Counts], float]


MEASURES = {  # by the key of its figure in the JSON document
    "psi": Measure("PSI", "population stability index", divergence),
    "ks": Measure("KS", "Kolmogorov-Smirnov distance at the bins' edges", kolmogorov_smirnov),
}
