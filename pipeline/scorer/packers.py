"""Packing a fitted model into flat arrays (`pipeline.scorer.forest`), and proving that they give the same scores.

scikit-learn's prediction, which the arrays repeat step by step: `BaseHistGradientBoosting._raw_predict` adds to the
baseline one leaf of every tree, in the order of the trees; `_predictor.pyx` goes left where a value is at most the
node's threshold, and with NaN where the node says so; `HalfBinomialLoss` takes SciPy's expit of the sum.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn._loss.loss import HalfBinomialLoss
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipeline.estimators.binner import TailBinner
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import COVER, FORMAT, PackedScorer, UnusableScorer, save
from processing.arrays import Floats

Cuts = list[Floats]

CHUNK = 50_000  # rows that both score at a time
ROUNDING = 1e-9  # contributions are sums in another order than the score
MIXED = 2_000  # edge cases in which every value of a row is one


def packed_file(model: Any, rows: Floats) -> tuple[bytes | None, str]:
    """The scorer.npz of a fitted model, and in a sentence why it may be used; or None, and why there is none.

    It is given only if it equals the model's `predict_proba` bit for bit, see `difference`.
    """
    arrays = pack(model)
    if arrays is None:
        return None, f"a {_kind(model)} cannot be packed; binary histogram gradient boosting on numbers alone can"
    data = save(arrays)
    try:
        scorer = PackedScorer.from_bytes(data)
    except UnusableScorer as error:
        return None, str(error)
    found = difference(scorer, model, rows)
    if found:
        return None, f"packed, it would not score as scikit-learn does: {found}"
    why = f"its {scorer.trees} trees score {len(rows)} rows and all edge cases as scikit-learn does"
    if off := unexplained(arrays, scorer, rows):
        del arrays[COVER]
        return save(arrays), f"{why}; it gives no reasons: {off}"
    return data, why


def pack(model: Any) -> dict[str, NDArray[Any]] | None:
    """The arrays of a fitted model; None if it is one that they cannot describe.

    They can describe a binary HistGradientBoostingClassifier without categorical features, alone or in a Pipeline,
    there also right behind a `TailBinner`: a threshold on its codes becomes one on the values themselves.
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
        "finite": np.array(cuts is not None),  # `TailBinner` refuses infinities, the trees by themselves do not
        "roots": roots.astype(np.uint32),
        "feature": np.concatenate([part["feature"] for part in parts]).astype(np.uint32),
        "threshold": np.concatenate([part["threshold"] for part in parts]),
        "left": np.concatenate([part["left"] for part in parts]).astype(np.uint32),
        "missing": np.concatenate([part["missing"] for part in parts]),
        COVER: np.concatenate([part[COVER] for part in parts]),
    }


def _in_order(nodes: NDArray[Any], cuts: Cuts | None) -> dict[str, NDArray[Any]]:
    """One tree's nodes level by level, so that the children of a node stand side by side and after it."""
    order, left = [0], []
    for place in order:  # grows on the way
        node = nodes[place]
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
    """The threshold on values that a threshold on their codes amounts to, see `TailBinner`."""
    if threshold >= len(cuts):  # infinity as well: the split between numbers and NaN
        return math.inf
    return float(cuts[math.floor(threshold)])


def difference(scorer: PackedScorer, model: Any, rows: Floats) -> str:
    """Where the packed scorer and the model's `predict_proba` first differ, be it by one bit; "" if nowhere.

    Compared are the rows, [n, m], and edge cases around them: see `edge_cases`. Where a row with an infinity is
    refused by one, the other must refuse it too.
    """
    infinite = np.full((1, scorer.features), math.inf)
    refusals = [_refuses(score, infinite) for score in (scorer.scores, model.predict_proba)]
    if refusals[0] != refusals[1]:
        return f"of infinities, {'the packed one' if refusals[0] else 'scikit-learn'} alone refuses to score them"
    for what, part in (("row", rows), ("edge case", edge_cases(scorer, rows, with_infinities=not refusals[0]))):
        for start in range(0, len(part), CHUNK):
            chunk = np.ascontiguousarray(part[start : start + CHUNK])
            packed = scorer.scores(chunk)
            with np.errstate(all="ignore"):  # the greatest numbers overflow in scikit-learn's check of its input
                expected = np.ascontiguousarray(model.predict_proba(chunk)[:, 1])
            differ = np.flatnonzero(packed.view(np.int64) != expected.view(np.int64))
            if len(differ):
                i = differ[0]
                return (
                    f"{what} {start + i} scores {packed[i].item()!r} packed and {expected[i].item()!r} by "
                    f"scikit-learn: {chunk[i].tolist()}"
                )
    return ""


def unexplained(arrays: Mapping[str, NDArray[Any]], scorer: PackedScorer, rows: Floats) -> str:
    """Where the features' contributions do not add up to the packed score, "" if nowhere: rows and edge cases."""
    try:
        contributions = Contributions(arrays)
    except UnusableScorer as error:
        return str(error)
    for part in (rows[:MIXED], edge_cases(scorer, rows, with_infinities=False)[-MIXED:]):
        with np.errstate(over="ignore"):
            explained = 1.0 / (1.0 + np.exp(-(contributions.expected + contributions.of(part).sum(axis=1))))
        differ = np.flatnonzero(~(np.abs(explained - scorer.scores(part)) <= ROUNDING))
        if len(differ):
            return f"the contributions to the score of {part[differ[0]].tolist()} do not add up to it"
    return ""


def edge_cases(scorer: PackedScorer, rows: Floats, *, with_infinities: bool) -> Floats:
    """Rows at the borders of what the trees tell apart, [k, m].

    The edges of a feature are its thresholds, their neighbours among floating-point numbers, NaN, zero of either
    sign, the smallest and the greatest numbers. Each is put into a row of the given ones (zeros, if there are
    none), and at last there are rows that consist of edges alone.
    """
    largest = np.finfo(np.float64).max
    always = [math.nan, 0.0, -0.0, 5e-324, -5e-324, largest, -largest]
    always += [math.inf, -math.inf] if with_infinities else []
    edges = [np.concatenate((found, always)) for found in _thresholds(scorer)]
    base = rows if len(rows) else np.zeros((1, scorer.features))
    one = []
    for j, values in enumerate(edges):
        cases = base[np.arange(len(values)) % len(base)].copy()
        cases[:, j] = values
        one.append(cases)
    random = np.random.default_rng(0)
    mixed = np.column_stack([random.choice(values, MIXED) for values in edges])
    return np.concatenate((*one, mixed))


def _thresholds(scorer: PackedScorer) -> Iterator[Floats]:
    """For every feature its finite thresholds, each with the numbers next to it."""
    for j in range(scorer.features):
        found = scorer.thresholds(j)
        found = found[np.isfinite(found)]
        with np.errstate(over="ignore", under="ignore"):
            near = (found, np.nextafter(found, -math.inf), np.nextafter(found, math.inf))
        every = np.unique(np.concatenate(near))
        yield every[np.isfinite(every)]


def _refuses(score: Any, rows: Floats) -> bool:
    try:
        score(rows)
    except ValueError:
        return True
    return False


def _kind(model: Any) -> str:
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    return " behind a ".join(type(step).__name__ for step in reversed(steps))
