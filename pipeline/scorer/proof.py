"""Proves that a packed scorer gives the scores of the model it was made from, to the last bit."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scorer.arrays_file import UnusableScorer
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import PackedScorer
from processing.arrays import Floats

CHUNK = 50_000  # rows scored at a time
ROUNDING = 1e-9  # contributions are summed in another order than the score
MIXED = 2_000  # edge cases in which every value of a row is an edge


def difference(scorer: PackedScorer, model: Any, rows: Floats) -> str:
    """Where the packed scorer and the model's `predict_proba` first differ, even by one bit; "" if nowhere.

    Compares the rows, [n, m], and edge cases around them: see `edge_cases`. If one refuses a row with an infinity, the
    other must refuse it too.
    """
    infinite = np.full((1, scorer.features), math.inf)
    refusals = [_refuses(score, infinite) for score in (scorer.scores, model.predict_proba)]
    if refusals[0] != refusals[1]:
        return f"only the {'packed scorer' if refusals[0] else 'model itself'} refuses to score infinities"
    for what, part in (("row", rows), ("edge case", edge_cases(scorer, rows, with_infinities=not refusals[0]))):
        for start in range(0, len(part), CHUNK):
            chunk = np.ascontiguousarray(part[start : start + CHUNK])
            packed = scorer.scores(chunk)
            with np.errstate(all="ignore"):  # the largest numbers overflow in scikit-learn's check of its input
                expected = np.ascontiguousarray(model.predict_proba(chunk)[:, 1])
            differ = np.flatnonzero(packed.view(np.int64) != expected.view(np.int64))
            if len(differ):
                i = differ[0]
                return (
                    f"{what} {start + i} scores {packed[i].item()!r} packed and {expected[i].item()!r} by the model "
                    f"itself: {chunk[i].tolist()}"
                )
    return ""


def unexplained(arrays: Mapping[str, NDArray[Any]], scorer: PackedScorer, rows: Floats) -> str:
    """Where the features' contributions do not add up to the packed score; "" if nowhere. Rows and edge cases."""
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
    """Rows at the borders between what the trees distinguish, [k, m].

    The edges of a feature are its thresholds, the floating-point numbers next to them, NaN, zero of either sign, and
    the smallest and largest numbers. Each is put into one of the given rows (or zeros, if there are none). At the end
    come rows that consist of edges only.
    """
    largest = np.finfo(np.float64).max
    always = [math.nan, 0.0, -0.0, 5e-324, -5e-324, largest, -largest]
    always += [math.inf, -math.inf] if with_infinities else []
    edges = [np.concatenate((near, always)) for near in _thresholds(scorer)]
    base = rows if len(rows) else np.zeros((1, scorer.features))
    single = []
    for j, values in enumerate(edges):
        cases = base[np.arange(len(values)) % len(base)].copy()
        cases[:, j] = values
        single.append(cases)
    random = np.random.default_rng(0)
    mixed = np.column_stack([random.choice(values, MIXED) for values in edges])
    return np.concatenate((*single, mixed))


def _thresholds(scorer: PackedScorer) -> Iterator[Floats]:
    """For each feature its finite thresholds and the numbers next to them."""
    for j in range(scorer.features):
        thresholds = scorer.thresholds(j)
        thresholds = thresholds[np.isfinite(thresholds)]
        with np.errstate(over="ignore", under="ignore"):
            near = (thresholds, np.nextafter(thresholds, -math.inf), np.nextafter(thresholds, math.inf))
        every = np.unique(np.concatenate(near))
        yield every[np.isfinite(every)]


def _refuses(score: Any, rows: Floats) -> bool:
    try:
        score(rows)
    except ValueError:
        return True
    return False
