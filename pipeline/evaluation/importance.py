"""Which features a model relies on: permutation importance, at a bounded cost."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

from pipeline.data.dataset import Dataset

MOST_FRAUDS, MOST_LEGITIMATE = 1_000, 4_000
REPEATS = 3


class Importance(NamedTuple):
    """By how much the average precision falls when a feature is shuffled, and the standard deviation of that."""

    feature: str
    loss: float
    deviation: float


def importances(score: Callable[[Any], Any], rows: Dataset, names: Sequence[str], seed: int = 0) -> list[Importance]:
    """The permutation importance of every feature, largest first; `score` takes [n, m] features to [n] scores.

    Each feature's values are shuffled among the rows three times, and the loss of average precision is measured
    (L. Breiman, "Random Forests", 2001). Features that carry the same information share the importance, so each can
    seem unimportant. At most 1,000 frauds and 4,000 legitimate rows are drawn, weighted to represent all.
    """
    random = np.random.default_rng(seed)
    weight = np.ones(rows.rows)
    drawn = []
    for label, most in ((1, MOST_FRAUDS), (0, MOST_LEGITIMATE)):
        indices = np.flatnonzero(rows.y == label)
        chosen = random.choice(indices, most, replace=False) if len(indices) > most else indices
        weight[chosen] = len(indices) / max(1, len(chosen))
        drawn.append(chosen)
    indices = np.sort(np.concatenate(drawn))
    values, labels, weight = rows.X[indices], rows.y[indices], weight[indices]

    def precision(X: Any) -> float:  # noqa: N803 (scikit-learn's name)
        return float(average_precision_score(labels, score(X), sample_weight=weight))

    whole, result = precision(values), []
    for j, name in enumerate(names):
        losses, shuffled = [], values.copy()
        for _ in range(REPEATS):
            shuffled[:, j] = random.permutation(values[:, j])
            losses.append(whole - precision(shuffled))
        result.append(Importance(name, float(np.mean(losses)), float(np.std(losses))))
    return sorted(result, key=lambda one: -one.loss)
