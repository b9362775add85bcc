"""What each feature adds to a packed model's score: exact Shapley values, from the packed arrays alone.

The game is TreeSHAP's with `feature_perturbation="tree_path_dependent"`: where feature j is unknown, a tree goes both
ways at a split on j, in the proportion of the training rows that went each way (S. M. Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2, 2020, algorithm 1).
A leaf then adds its value times a product over the features on its path. A known feature contributes 1 or 0, for
whether the row's value leads to the leaf; an unknown one contributes z, the proportion of rows that it leads there.

The Shapley value of such a product is the integral of its multilinear extension's derivative along the diagonal
(G. Owen, "Multilinear extensions of games", Management Science 18, 1972):

    phi_j = value * (o_j - z_j) * integral over t in [0, 1] of the product over i != j of (z_i + (o_i - z_i) t)

The integrand is a polynomial in t, which Gauss-Legendre quadrature integrates exactly. The result equals that of
TreeSHAP's algorithm 2. Each of a few quadrature nodes takes time linear in a path's length, and all terms are positive,
so nothing cancels.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scorer.arrays_file import COVER, Arrays, UnusableScorer
from pipeline.scorer.machine_code import compile_function
from processing.arrays import Floats, Ints

LONGEST = 2_000_000  # splits on all paths together; the default model has 8,000


class Contributions:
    """The contributions of a packed model's features to its raw score (the logit of the probability).

    Takes arrays that `PackedScorer` has accepted and that have `cover`. `expected` is the mean raw score over the
    training rows; a row's contributions and `expected` add up to its raw score. Thread-safe. Raises UnusableScorer for
    trees that are too deep.

    Examples
    --------
    One tree: in 3 of 4 training rows the first number was at most 1.5; the second number is never tested.

    >>> import numpy as np
    >>> from pipeline.scorer.contributions import Contributions
    >>> contributions = Contributions({
    ...     "format": np.array(1), "features": np.array(2), "baseline": np.array(0.0), "finite": np.array(False),
    ...     "roots": np.array([0], np.uint32), "feature": np.zeros(3, np.uint32), "missing": np.zeros(3, bool),
    ...     "threshold": np.array([1.5, -2.0, 2.0]), "left": np.array([1, 0, 0], np.uint32),
    ...     "cover": np.array([4, 3, 1], np.uint32),
    ... })
    >>> contributions.expected
    -1.0
    >>> contributions.of(np.array([[1.5, 7.0], [np.nan, 7.0]]))
    array([[-1.,  0.],
           [ 3.,  0.]])
    """

    def __init__(self, arrays: Arrays) -> None:
        self.features = int(arrays["features"])
        values, shares, starts, parts = _paths(arrays)
        self.expected = float(arrays["baseline"] + math.fsum(values * shares))
        longest = int(np.diff(starts).max(initial=0))
        nodes, weights = np.polynomial.legendre.leggauss(max(1, (longest + 1) // 2))  # exact up to the longest path
        self._arguments = (values, starts, *parts, (nodes + 1.0) / 2.0, weights / 2.0)
        self._walk = compiled_contributions()

    def of(self, rows: Floats) -> Floats:
        """The contributions, [n, m] float64 for rows [n, m]. Raises ValueError for rows of another width."""
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ValueError(f"rows are of shape {rows.shape}, expected (n, {self.features})")
        out = np.zeros(rows.shape)
        self._walk(*self._arguments, rows, out)
        return out


def _paths(arrays: Arrays) -> tuple[Floats, Floats, Ints, tuple[NDArray[Any], ...]]:
    """The paths from the roots to the p leaves, with all splits of a path on one feature merged into one condition.

    Returns the leaves' values [p], the share of training rows in each [p], where each path's conditions begin [p + 1],
    and the conditions, each [c]: the feature, the share z of rows that meet it, and which values meet it: numbers above
    `lower` (NaN: any) and at most `upper`, and NaN if `missing`.
    """
    left, cover = arrays["left"].astype(np.int64), arrays[COVER].astype(np.float64)
    inner = np.flatnonzero(left)
    parent = np.full(len(left), -1)
    parent[left[inner]] = parent[left[inner] + 1] = inner
    leaves = np.flatnonzero(left == 0)
    steps: list[tuple[NDArray[Any], ...]] = []
    length = 0
    at, path = leaves, np.arange(len(leaves))
    while True:  # climb from all leaves at once until all have reached their roots
        below = parent[at] >= 0
        at, path = at[below], path[below]
        if not len(at):
            break
        length += len(at)
        if length > LONGEST:
            raise UnusableScorer(
                f"the packed trees' paths have more than {LONGEST:,} splits in total: too many to explain"
            )
        up = parent[at]
        is_left = left[up] == at
        bound = arrays["threshold"][up]
        steps.append(
            (
                path,
                arrays["feature"][up].astype(np.int64),
                cover[at] / cover[up],
                np.where(is_left, np.nan, bound),
                np.where(is_left, bound, np.inf),
                arrays["missing"][up] == is_left,
            )
        )
        at = up
    values, shares = arrays["threshold"][leaves], cover[leaves] / cover[_roots_of(leaves, parent)]
    if not steps:  # every tree is a single leaf
        none = np.zeros(0)
        return values, shares, np.zeros(len(leaves) + 1, np.int64), (none.astype(np.int64), *[none] * 3, none > 0)
    path, feature, share, lower, upper, missing = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.lexsort((feature, path))
    path, feature = path[order], feature[order]
    first = np.flatnonzero(np.r_[True, (path[1:] != path[:-1]) | (feature[1:] != feature[:-1])])
    starts = np.searchsorted(path[first], np.arange(len(leaves) + 1))
    conditions = (
        np.ascontiguousarray(feature[first]),
        np.multiply.reduceat(share[order], first),
        np.fmax.reduceat(lower[order], first),
        np.minimum.reduceat(upper[order], first),
        np.logical_and.reduceat(missing[order], first),
    )
    return values, shares, starts.astype(np.int64), conditions


def _roots_of(nodes: Ints, parent: Ints) -> Ints:
    roots = nodes.copy()
    while (above := parent[roots] >= 0).any():
        roots[above] = parent[roots[above]]
    return roots


@functools.cache
def compiled_contributions() -> Callable[..., int]:
    """`_walk` as machine code, compiled or read from Numba's cache."""
    return compile_function(_walk, "int64(f, q, q, f, f, f, b, f, f, F, W)")


def _walk(
    values: Any,
    starts: Any,
    feature: Any,
    share: Any,
    lower: Any,
    upper: Any,
    missing: Any,
    nodes: Any,
    weights: Any,
    rows: Any,
    out: Any,
) -> int:
    """Add the contributions to `out`. Useful only when compiled."""
    met = np.empty(out.shape[1], np.bool_)
    for i in range(len(rows)):
        for p in range(len(values)):
            start, stop = starts[p], starts[p + 1]
            for c in range(start, stop):
                x = rows[i, feature[c]]
                met[c - start] = ((x <= upper[c]) & (not x <= lower[c])) | ((x != x) & missing[c])
            for q in range(len(nodes)):
                t, rest = nodes[q], 1.0 - nodes[q]
                product = values[p] * weights[q]
                for c in range(start, stop):
                    product *= share[c] * rest + (t if met[c - start] else 0.0)
                for c in range(start, stop):
                    if met[c - start]:
                        out[i, feature[c]] += product * (1.0 - share[c]) / (share[c] * rest + t)
                    else:
                        out[i, feature[c]] -= product / rest
    return 0
