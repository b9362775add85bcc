"""Packed trees: a gradient-boosted model as flat arrays, scored without scikit-learn and without a pickle.

The score is the logistic function of the baseline plus one leaf of every tree, added in the order of the trees. The
arrays are described in `pipeline.scorer.arrays_file`.

Imports only NumPy until a scorer is made, which loads Numba. The first scorer on a machine compiles the walk and stores
it in Numba's cache on disk: beside this file or in the user's cache folder, whichever is writable, else nowhere.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from pipeline.scorer.arrays_file import DTYPES, Arrays, check_arrays, read_arrays
from pipeline.scorer.machine_code import compile_function
from processing.arrays import Floats

BLOCK = 256  # rows that pass through a tree together: they and the tree's nodes stay in the processor's nearest cache


class PackedScorer:
    """A packed model that is ready to score. Thread-safe; the walk does not hold the GIL.

    The arrays are not trusted: if they pass the checks, the walk cannot read outside them and always ends.
    Raises UnusableScorer.

    Examples
    --------
    One tree, which tests whether a row's only number is at most 1.5:

    >>> import numpy as np
    >>> from pipeline.scorer.forest import PackedScorer
    >>> scorer = PackedScorer({
    ...     "format": np.array(1), "features": np.array(1), "baseline": np.array(0.0), "finite": np.array(False),
    ...     "roots": np.array([0], np.uint32), "feature": np.zeros(3, np.uint32), "missing": np.zeros(3, bool),
    ...     "threshold": np.array([1.5, -2.0, 2.0]), "left": np.array([1, 0, 0], np.uint32),
    ... })
    >>> scorer.scores(np.array([[1.5], [1.6], [np.nan]])).round(2)
    array([0.12, 0.88, 0.88])
    """

    def __init__(self, arrays: Arrays) -> None:
        check_arrays(arrays)
        self.features = int(arrays["features"])
        self.trees = len(arrays["roots"])
        # Copies: the arrays must not change after the check.
        own = {name: np.array(arrays[name], order="C") for name in DTYPES}
        self._feature, self._threshold, self._left = own["feature"], own["threshold"], own["left"]
        self._arguments = (
            *(own[name] for name in ("roots", "feature", "threshold", "left", "missing")),
            float(own["baseline"]),
            bool(own["finite"]),
        )
        self._walk = compiled_walk()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The scorer in a scorer.npz. Raises UnusableScorer."""
        return cls(read_arrays(data))

    def thresholds(self, feature: int) -> Floats:
        """The distinct thresholds of the trees on one feature, ascending."""
        return np.unique(self._threshold[(self._left > 0) & (self._feature == feature)])

    def score(self, row: Floats) -> float:
        """The score of one row, [1, m]. Raises ValueError as `scores` does."""
        return float(self.scores(row)[0])

    def scores(self, rows: Floats) -> Floats:
        """The scores of rows, [n, m] float64 to [n].

        Raises ValueError for rows of another width, and for an infinity if the packed model refused it.
        """
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ValueError(f"rows are of shape {rows.shape}, expected (n, {self.features})")
        scores = np.empty(len(rows))
        refused = self._walk(*self._arguments, rows, scores)
        if refused >= 0:
            raise ValueError(f"row {refused} holds an infinity; this model takes only finite numbers and NaN")
        return scores


@functools.cache
def compiled_walk() -> Callable[..., int]:
    """`_walk` as machine code, compiled or read from Numba's cache."""
    return compile_function(_walk, "int64(i, i, f, i, b, float64, boolean, F, w)")


def _walk(
    roots: Any,
    feature: Any,
    threshold: Any,
    left: Any,
    missing: Any,
    baseline: float,
    finite: bool,
    rows: Any,
    scores: Any,
) -> int:
    """Fill `scores`; returns the index of the first refused row, or -1. Useful only when compiled."""
    if finite:
        for i in range(len(rows)):
            for j in range(rows.shape[1]):
                if abs(rows[i, j]) == math.inf:
                    return i
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        for i in range(start, stop):
            scores[i] = baseline
        for root in roots:
            for i in range(start, stop):
                node, child = root, left[root]
                while child:
                    value = rows[i, feature[node]]
                    goes_left = (value <= threshold[node]) | ((value != value) & missing[node])
                    node = child + (np.uint32(0) if goes_left else np.uint32(1))  # unsigned, so no sign is checked
                    child = left[node]
                scores[i] += threshold[node]
        for i in range(start, stop):
            # The C library's exp in the order of SciPy's expit, which scikit-learn calls: the same bits.
            scores[i] = 1.0 / (1.0 + math.exp(-scores[i]))
    return -1
