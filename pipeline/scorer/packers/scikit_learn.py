"""Packs scikit-learn's histogram gradient boosting.

The arrays repeat scikit-learn's prediction step by step: `BaseHistGradientBoosting._raw_predict` adds one leaf of every
tree to the baseline, in the order of the trees; `_predictor.pyx` goes left if a value is at most the node's threshold,
and for NaN if the node says so; `HalfBinomialLoss` applies SciPy's expit to the sum.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn._loss.loss import HalfBinomialLoss
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipeline.estimators.binner import TailBinner
from pipeline.scorer.arrays_file import COVER, FORMAT
from processing.arrays import Floats

Cuts = list[Floats]


def pack(model: Any) -> dict[str, NDArray[Any]] | None:
    """The arrays of a binary HistGradientBoostingClassifier; None for any other model.

    It must have no categorical features. It may stand in a Pipeline, also right after a `TailBinner`: a threshold on
    the binner's codes becomes one on the values themselves.
    """
    steps = [step for _, step in model.steps] if type(model) is Pipeline else [model]
    if [type(step) for step in steps] not in (
        [HistGradientBoostingClassifier],
        [TailBinner, HistGradientBoostingClassifier],  # no subclass: it might predict in another way
    ):
        return None
    trees = steps[-1]
    if len(trees.classes_) != 2 or type(trees._loss) is not HalfBinomialLoss or trees.is_categorical_ is not None:
        return None
    cuts = steps[0].cuts_ if len(steps) == 2 else None
    parts = [_in_order(tree.nodes, cuts) for (tree,) in trees._predictors]
    lengths = [len(part["left"]) for part in parts]
    roots = np.cumsum([0, *lengths])[:-1]
    for part, root in zip(parts, roots, strict=True):
        part["left"][part["left"] > 0] += root
    return {
        "format": np.array(FORMAT, np.int64),
        "features": np.array(trees.n_features_in_, np.int64),
        "baseline": np.array(trees._baseline_prediction.item(), np.float64),
        "finite": np.array(cuts is not None),  # `TailBinner` refuses infinities, the trees alone do not
        "roots": roots.astype(np.uint32),
        "feature": np.concatenate([part["feature"] for part in parts]).astype(np.uint32),
        "threshold": np.concatenate([part["threshold"] for part in parts]),
        "left": np.concatenate([part["left"] for part in parts]).astype(np.uint32),
        "missing": np.concatenate([part["missing"] for part in parts]),
        COVER: np.concatenate([part[COVER] for part in parts]),
    }


def _in_order(nodes: NDArray[Any], cuts: Cuts | None) -> dict[str, NDArray[Any]]:
    """One tree's nodes level by level, so that a node's children are adjacent and come after it."""
    order, left = [0], []
    for index in order:  # the list grows while it is read
        node = nodes[index]
        left.append(0 if node["is_leaf"] else len(order))
        if not node["is_leaf"]:
            order += [int(node["left"]), int(node["right"])]
    ordered = nodes[order]
    inner = ordered["is_leaf"] == 0
    thresholds = [
        (_on_values(node["num_threshold"], cuts[node["feature_idx"]]) if cuts else node["num_threshold"])
        if node["is_leaf"] == 0
        else node["value"]
        for node in ordered
    ]
    return {
        "feature": np.where(inner, ordered["feature_idx"], 0),
        "threshold": np.array(thresholds, np.float64),
        "left": np.array(left, np.int64),
        "missing": inner & (ordered["missing_go_to_left"] == 1),
        COVER: ordered["count"].astype(np.uint32),
    }


def _on_values(threshold: float, cuts: Floats) -> float:
    """The threshold on values that equals a threshold on their codes, see `TailBinner`."""
    if threshold >= len(cuts):  # also infinity, the split between numbers and NaN
        return math.inf
    return float(cuts[math.floor(threshold)])
