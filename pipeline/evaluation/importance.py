"""Which features a model lives on: permutation importance, at a bounded cost."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

from pipeline.data.dataset import Dataset

MOST_FRAUDS, MOST_HONEST = 1_000, 4_000
REPEATS = 3


class Importance(NamedTuple):
    """By how much the average precision falls without what a feature says, and the standard deviation of that."""

    feature: str
    loss: float
    deviation: float


def importances(score: Callable[[Any], Any], rows: Dataset, names: Sequence[str], seed: int = 0) -> list[Importance]:
    """The permutation importance of every feature, greatest first; `score` takes [n, m] features to [n] scores.

    A feature's values are shuffled among the rows, three times, and the loss of average precision is measured
    (L. Breiman, "Random Forests", 2001). Features that tell the same share it: each alone can then seem to be worth
    little. At most 1,000 frauds and 4,000 honest rows are drawn; the latter weigh as many as they stand for.
    """
    random = np.random.default_rng(seed)
    weight = np.ones(rows.rows)
    drawn = []
    for label, most in ((1, MOST_FRAUDS), (0, MOST_HONEST)):
        places = np.flatnonzero(rows.y == label)
        chosen = random.choice(places, most, replace=False) if len(places) > most else places
        weight[chosen] = len(places) / max(1, len(chosen))
        drawn.append(chosen)
    places = np.sort(np.concatenate(drawn))
    values, labels, weight = rows.X[places], rows.y[places], weight[places]

    def precision(X: Any) -> float:  # noqa: N803 (scikit-learn's name)
        return float(average_precision_score(labels, score(X), sample_weight=weight))

    whole, found = precision(values), []
    for place, name in enumerate(names):
        losses, shuffled = [], values.copy()
        for _ in range(REPEATS):
            shuffled[:, place] = random.permutation(values[:, place])
            losses.append(whole - precision(shuffled))
        found.append(Importance(name, float(np.mean(losses)), float(np.std(losses))))
    return sorted(found, key=lambda each: -each.loss)
