"""How much a feature tells about the label by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pipeline.data.dataset import Dataset
from pipeline.evaluation.distance import divergence
from pipeline.evaluation.histogram import bin_counts, histogram
from processing.arrays import Floats

# These follow from the transaction's time: they change with the days compared, and cannot break.
CALENDAR = ("hour", "weekend")


def strengths(rows: Dataset, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The `strength` of every feature by name, except those of the calendar."""
    return {name: strength(rows.X[:, j], rows.y) for j, name in enumerate(names) if name not in CALENDAR}


def strength(values: Floats, y: NDArray[Any]) -> dict[str, float]:
    """How much one feature tells about the label by itself: {"information", "auc", "spread"}.

    information: the information value over the bins of `histogram`, whatever the shape of the relation
    auc: the area under the ROC curve of the feature as a score, or of its negative if that is better; missing values
        count as lowest or highest, whichever is better
    spread: the share of the rows outside the fullest bin; 0 for a feature with a single value
    """
    bins = histogram(values)
    edges = bins["edges"]
    fraud = y == 1
    areas = [roc_auc_score(y, np.nan_to_num(values, nan=end, posinf=np.inf)) for end in _ends(values)]
    return {
        "information": divergence(bin_counts(values[fraud], edges), bin_counts(values[~fraud], edges)),
        "auc": float(max(max(area, 1 - area) for area in areas)),
        "spread": 1.0 - max(bins["counts"]) / len(values),
    }


def _ends(values: Floats) -> tuple[float, ...]:
    """What missing values may count as: a number below all others, and one above."""
    present = values[~np.isnan(values)]
    if len(present) == len(values):
        return (0.0,)
    return (float(present.min()) - 1.0, float(present.max()) + 1.0) if len(present) else (0.0,)
