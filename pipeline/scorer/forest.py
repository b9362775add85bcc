"""Packed trees: a gradient-boosting model as flat arrays, scored without scikit-learn and without a pickle.

`pipeline.scorer.packers` makes the arrays, of n nodes in t trees:

    format     []   int64    1, the meaning of all that follows
    features   []   int64    how many numbers a row has
    baseline   []   float64  the raw score before any tree
    finite     []   bool     whether a row with an infinity is refused
    roots      [t]  uint32   where each tree begins
    feature    [n]  uint32   which number of the row a node looks at; 0 in a leaf
    threshold  [n]  float64  a value at or below it goes left; in a leaf, what the leaf adds to the raw score
    left       [n]  uint32   the child on the left; the one on the right follows it; 0 in a leaf
    missing    [n]  bool     whether NaN goes left
    cover      [n]  uint32   how many training rows came to a node; may be lacking, see `pipeline.scorer.contributions`

The score is the logistic function of the baseline plus one leaf of every tree, added in the order of the trees.

Imports NumPy alone until a scorer is made; that brings Numba. The first on a machine compiles the walk and leaves it
in Numba's cache on disk: beside this file or in the user's cache folder, whichever can be written, else nowhere.
"""

import functools
import io
import math
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.errors import FraudlineError

Arrays = Mapping[str, NDArray[Any]]

SCORER_FILE = "scorer.npz"
FORMAT = 1
DTYPES: dict[str, tuple[type[np.generic], int]] = {  # and the number of dimensions
    "format": (np.int64, 0),
    "features": (np.int64, 0),
    "baseline": (np.float64, 0),
    "finite": (np.bool_, 0),
    "roots": (np.uint32, 1),
    "feature": (np.uint32, 1),
    "threshold": (np.float64, 1),
    "left": (np.uint32, 1),
    "missing": (np.bool_, 1),
}
COVER = "cover"
OPTIONAL: dict[str, tuple[type[np.generic], int]] = {COVER: (np.uint32, 1)}
BLOCK = 256  # rows taken through a tree together: they and the tree's nodes stay in the processor's nearest cache


class UnusableScorer(FraudlineError):
    """Arrays that are no packed model: damaged, or of another format."""


class PackedScorer:
    """A packed model, ready to score. Safe from many threads, and others run meanwhile: the walk needs no GIL.

    Nothing in the arrays is trusted: what passes the checks cannot read outside them, nor walk without end.
    Raises UnusableScorer.

    Examples
    --------
    One tree that asks whether the only number of a row is at most 1.5:

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
        check(arrays)
        self.features = int(arrays["features"])
        self.trees = len(arrays["roots"])
        # A copy of its own: what was checked must not change afterwards.
        own = {name: np.array(arrays[name], order="C") for name in DTYPES}
        self._feature, self._threshold, self._left = own["feature"], own["threshold"], own["left"]
        self._arguments = (
            *(own[name] for name in ("roots", "feature", "threshold", "left", "missing")),
            float(own["baseline"]),
            bool(own["finite"]),
        )
        self._walk = compiled_walk()

    def thresholds(self, feature: int) -> Floats:
        """The distinct thresholds that the trees have on one number of a row, in order."""
        return np.unique(self._threshold[(self._left > 0) & (self._feature == feature)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The scorer in a scorer.npz. Raises UnusableScorer."""
        return cls(load(data))

    def score(self, row: Floats) -> float:
        """The score of one row, [1, m]. Raises ValueError as `scores` does."""
        return float(self.scores(row)[0])

    def scores(self, rows: Floats) -> Floats:
        """The scores of rows, [n, m] float64 to [n].

        Raises ValueError for rows of another width, and for an infinity where the packed model refused it.
        """
        rows = np.ascontiguousarray(rows, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise ValueError(f"rows are of shape {rows.shape}, expected (n, {self.features})")
        scores = np.empty(len(rows))
        refused = self._walk(*self._arguments, rows, scores)
        if refused >= 0:
            raise ValueError(f"row {refused} holds an infinity; this model was fitted to take finite numbers and NaN")
        return scores


def save(arrays: Arrays) -> bytes:
    """The arrays as a scorer.npz; the same arrays give the same bytes."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def load(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in a scorer.npz, not checked yet. Raises UnusableScorer."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:  # `save` compresses nothing; a small file could unpack into one that fills the memory
            raise UnusableScorer(f"{SCORER_FILE} is compressed, expected plain arrays")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in DTYPES | OPTIONAL if name in file.files}
    except (
        zipfile.BadZipFile,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        RuntimeError,
        MemoryError,
        SyntaxError,
    ) as error:
        raise UnusableScorer(f"{SCORER_FILE} cannot be read: {error}") from None


def check(arrays: Arrays) -> None:
    """Raise UnusableScorer unless the arrays are a forest that can be walked.

    Every node must be the root of a tree or a child of exactly one node that comes before it. So no walk turns back
    or leaves its tree, and all walks of a row together visit no more nodes than there are.
    """
    for name, (dtype, dimensions) in (DTYPES | OPTIONAL).items():
        if name not in arrays:
            if name in OPTIONAL:
                continue
            raise UnusableScorer(f"the packed model lacks {name!r}")
        found = arrays[name]
        if found.dtype != dtype or found.ndim != dimensions:
            kind = f"{found.ndim}-dimensional {found.dtype}"
            raise UnusableScorer(f"{name!r} is {kind}, expected {dimensions}-dimensional {np.dtype(dtype)}")
        if name == "format" and int(found) != FORMAT:
            raise UnusableScorer(f"the packed model has format {int(found)}, this code reads format {FORMAT}")
    n, features = len(arrays["left"]), int(arrays["features"])
    left = arrays["left"].astype(np.int64)
    parents = np.flatnonzero(left)
    lengths = {name: len(arrays[name]) for name in ("feature", "threshold", "missing", COVER) if name in arrays}
    children = np.concatenate((arrays["roots"].astype(np.int64), left[parents], left[parents] + 1))
    wrong = {
        f"its arrays differ in length: {n} nodes, {lengths}": set(lengths.values()) != {n},
        f"it has {n} nodes, more than can be numbered": n > np.iinfo(np.uint32).max,
        "a child comes before its parent": bool((left[parents] <= parents).any()),
        "a node is missing, or reached on two ways": not np.array_equal(np.sort(children), np.arange(n)),
        f"a node looks at a number that a row of {features} has not": bool((arrays["feature"] >= features).any()),
        "a threshold, a leaf or the baseline is not a number": bool(
            np.isnan(arrays["threshold"]).any() or np.isnan(arrays["baseline"])
        ),
    }
    if COVER in arrays and not any(wrong.values()):
        cover = arrays[COVER].astype(np.int64)
        split = cover[parents] != cover[left[parents]] + cover[left[parents] + 1]
        wrong["its nodes' training rows do not add up"] = bool((cover < 1).any() or split.any())
    if any(wrong.values()):
        raise UnusableScorer(
            "the packed model is damaged: " + "; ".join(what for what, is_so in wrong.items() if is_so)
        )


@functools.cache
def compiled_walk() -> Callable[..., int]:
    """`_walk` as machine code, compiled or fetched from Numba's cache."""
    return compiled(_walk, "int64(i, i, f, i, b, float64, boolean, F, w)")


def compiled(function: Callable[..., int], signature: str) -> Callable[..., int]:
    """A function as machine code that needs no GIL, compiled or fetched from Numba's cache.

    In the signature f, i, q and b are read-only arrays of float64, uint32, int64 and bool, F is one of float64 with
    two dimensions; w and W are as f and F, to be written.
    """
    # Numba looks for its linear algebra: a third of the time to load, and not used here.
    with _out_of_reach("scipy"):
        import numba  # half a second that only a process with a packed model should take

        arrays = {
            letter: numba.types.Array(kind, 2 if letter in "FW" else 1, "C", readonly=letter not in "wW")
            for letter, kind in zip(
                "fiqbFwW", (numba.float64, numba.uint32, numba.int64, numba.boolean, *[numba.float64] * 3), strict=True
            )
        }
        result, given = signature.rstrip(")").split("(")
        kinds = [arrays[name] if name in arrays else getattr(numba, name) for name in given.split(", ")]
        typed = getattr(numba, result)(*kinds)
        machine_code: Callable[..., int]
        try:
            machine_code = numba.njit(typed, cache=True, nogil=True, error_model="numpy")(function)
        except (RuntimeError, OSError):  # no folder that Numba may write, or a full disk
            machine_code = numba.njit(typed, nogil=True, error_model="numpy")(function)
        return machine_code


@contextmanager
def _out_of_reach(package: str) -> Iterator[None]:
    """A package that was not imported yet cannot be, for the time of a with block."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment] # what the import system takes for "not there"
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]


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
    """Fill `scores`; the place of the first row that is refused, or -1. Only compiled is it of any use."""
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
                    node = child + (np.uint32(0) if goes_left else np.uint32(1))  # of its type: no sign to look for
                    child = left[node]
                scores[i] += threshold[node]
        for i in range(start, stop):
            # The C library's exp, in the order of SciPy's expit, which scikit-learn calls: the same bits.
            scores[i] = 1.0 / (1.0 + math.exp(-scores[i]))
    return -1
