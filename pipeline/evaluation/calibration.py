"""Whether scores can be read as probabilities: of the transactions scored 0.2, about a fifth should be fraud."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats

BINS = 50  # frauds are rare: with the usual 10 bins they would all lie in one


class Reliability(NamedTuple):
    """Bins of about equally many rows, lowest scores first: mean score, share of frauds, rows; [bins] each."""

    score: Floats
    fraud: Floats
    rows: NDArray[np.int64]


def reliability_bins(y: NDArray[Any], score: Floats, bins: int = BINS) -> Reliability:
    """The scores in at most `bins` quantile bins; rows with equal scores stay together. `y` is 0 or 1, [n]."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    cuts = np.linspace(0, len(score), bins + 1).round().astype(np.int64)[:-1]
    starts = np.unique(np.searchsorted(ordered, ordered[cuts[cuts < len(score)]], side="left"))
    rows = np.diff(np.append(starts, len(score)))
    return Reliability(
        np.add.reduceat(ordered, starts) / rows, np.add.reduceat(y[order].astype(np.float64), starts) / rows, rows
    )


def calibration(y: NDArray[Any], score: Floats) -> dict[str, float]:
    """How well the scores, read as probabilities, match the labels, [n] each.

    brier: the mean squared difference between score and label
    brier_skill: by what share that is lower than if every row were scored with the share of frauds; 1 is perfect
    calibration_error: the expected calibration error, over the bins of `reliability_bins`
    frauds_expected: the sum of the scores, to compare with the number of frauds

    Sources: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78,
    1950; M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015, with bins of equal counts as in K. Nguyen, B. O'Connor, "Posterior calibration and exploratory analysis
    for natural language processing models", EMNLP 2015.
    """
    binned = reliability_bins(y, score)
    brier = float(np.mean((score - y) ** 2))
    uninformed = float(np.var(y))
    return {
        "brier": brier,
        "brier_skill": 1.0 - brier / uninformed if uninformed else 0.0,
        "calibration_error": float(np.sum(binned.rows * np.abs(binned.score - binned.fraud)) / len(y)),
        "frauds_expected": float(score.sum()),
    }
