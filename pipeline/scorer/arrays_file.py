"""`scorer.npz`: the arrays of a packed model, read, written and checked.

The arrays of n nodes in t trees, which `pipeline.scorer.packers` makes:

    format     []   int64    1, the meaning of all that follows
    features   []   int64    how many numbers a row has
    baseline   []   float64  the raw score before any tree
    finite     []   bool     whether a row with an infinity is refused
    roots      [t]  uint32   the root node of each tree
    feature    [n]  uint32   which number of the row a node tests; 0 in a leaf
    threshold  [n]  float64  values at or below it go left; in a leaf, what the leaf adds to the raw score
    left       [n]  uint32   the left child; the right one follows it; 0 in a leaf
    missing    [n]  bool     whether NaN goes left
    cover      [n]  uint32   how many training rows reached a node; optional, see `pipeline.scorer.contributions`
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


class UnusableScorer(FraudlineError):
    """Arrays that are not a packed model: damaged, or of another format."""


def write_arrays(arrays: Arrays) -> bytes:
    """The bytes of a scorer.npz; equal arrays give equal bytes."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in a scorer.npz, unchecked. Raises UnusableScorer."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if compressed:  # `write_arrays` never compresses; a small file could unpack into one that fills the memory
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


def check_arrays(arrays: Arrays) -> None:
    """Raise UnusableScorer unless the arrays are a forest that is safe to walk.

    Every node must be the root of a tree, or a child of exactly one earlier node. So no walk turns back or leaves its
    tree, and all walks of one row together visit each node at most once.
    """
    _check_types(arrays)
    n, features = len(arrays["left"]), int(arrays["features"])
    left = arrays["left"].astype(np.int64)
    parents = np.flatnonzero(left)
    lengths = {name: len(arrays[name]) for name in ("feature", "threshold", "missing", COVER) if name in arrays}
    children = np.concatenate((arrays["roots"].astype(np.int64), left[parents], left[parents] + 1))
    faults = {
        f"its arrays differ in length: {n} nodes, {lengths}": set(lengths.values()) != {n},
        f"it has {n} nodes, more than 32 bits can number": n > np.iinfo(np.uint32).max,
        "a child comes before its parent": bool((left[parents] <= parents).any()),
        "a node is missing, or has two parents": not np.array_equal(np.sort(children), np.arange(n)),
        f"a node tests a number that a row of {features} does not have": bool((arrays["feature"] >= features).any()),
        "a threshold, a leaf or the baseline is NaN": bool(
            np.isnan(arrays["threshold"]).any() or np.isnan(arrays["baseline"])
        ),
    }
    if COVER in arrays and not any(faults.values()):
        cover = arrays[COVER].astype(np.int64)
        split = cover[parents] != cover[left[parents]] + cover[left[parents] + 1]
        faults["its nodes' training rows do not add up"] = bool((cover < 1).any() or split.any())
    if any(faults.values()):
        raise UnusableScorer("the packed model is damaged: " + "; ".join(fault for fault in faults if faults[fault]))


def _check_types(arrays: Arrays) -> None:
    for name, (dtype, dimensions) in (DTYPES | OPTIONAL).items():
        if name not in arrays:
            if name in OPTIONAL:
                continue
            raise UnusableScorer(f"the packed model lacks {name!r}")
        array = arrays[name]
        if array.dtype != dtype or array.ndim != dimensions:
            kind = f"{array.ndim}-dimensional {array.dtype}"
            raise UnusableScorer(f"{name!r} is {kind}, expected {dimensions}-dimensional {np.dtype(dtype)}")
        if name == "format" and int(array) != FORMAT:
            raise UnusableScorer(f"the packed model has format {int(array)}, this code reads format {FORMAT}")
