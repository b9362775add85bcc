"""The sample of its test rows that a reference keeps, from which `pipeline.evaluation.chance` draws.

Its size is bounded: ROWS rows of whole entities for each kind of entity, as bins of the histograms and without any
name, and the counts of PERIODS periods.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Ints

ROWS, PER_ENTITY = 3_000, 40  # rows kept of one kind of entity, and of one entity
PERIODS, PARTS = 64, 8  # periods kept; periods of a day


def sample_of(bins: NDArray[np.uint8], widths: Sequence[int], entities: Mapping[str, Any], day: Ints) -> dict[str, Any]:
    """What a reference keeps of its rows, JSON-ready.

    bins: the bin of every row in every column's histogram, [n, k], rows in the order of their times
    widths: how many bins the histogram of each column has, [k]
    entities: for each kind of entity, the entity of every row, [n]
    """
    random = np.random.default_rng(0)
    period = periods_of(day)
    total = int(period.max()) + 1
    chosen = np.sort(random.permutation(total)[:PERIODS])
    counts = np.stack([_counts(bins[period == one], widths) for one in chosen])
    return {
        "rows": len(bins),
        "entities": {name: _entities(bins, np.asarray(values), random) for name, values in entities.items()},
        "periods": {"of": total, "counts": pack_array(counts.astype("<i4"))},
    }


def periods_of(day: Ints) -> Ints:
    """The period of every row, [n] from 0. A day is cut into periods with about as many rows each.

    Rows are in the order of their times.
    """
    code, sizes = np.unique(day, return_inverse=True, return_counts=True)[1:]
    within = np.arange(len(day)) - (np.cumsum(sizes) - sizes)[code]
    return np.unique(code * PARTS + within * PARTS // sizes[code], return_inverse=True)[1].astype(np.int64)


def pack_array(values: NDArray[Any]) -> str:
    """An array's bytes as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def unpack_array(text: str, dtype: str) -> NDArray[Any]:
    """The flat array that `pack_array` was given. Raises ValueError or zlib.error for damaged text."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype)


def _entities(bins: NDArray[np.uint8], entity: NDArray[Any], random: np.random.Generator) -> dict[str, Any]:
    """Rows of random whole entities; of a large entity only some of its rows."""
    code, sizes = np.unique(entity, return_inverse=True, return_counts=True)[1:]
    order, ends = np.argsort(code, kind="stable"), np.cumsum(sizes)
    rows: list[Ints] = []
    chosen: list[int] = []
    for one in random.permutation(len(sizes)):
        own = order[ends[one] - sizes[one] : ends[one]]
        rows.append(np.sort(random.permutation(own)[:PER_ENTITY]))
        chosen.append(int(one))
        if sum(map(len, rows)) >= ROWS:
            break
    return {
        "of": len(sizes),
        "sizes": [int(sizes[one]) for one in chosen],
        "kept": [len(own) for own in rows],
        "bins": pack_array(bins[np.concatenate(rows)]),
    }


def _counts(bins: NDArray[np.uint8], widths: Sequence[int]) -> Ints:
    return np.concatenate([np.bincount(bins[:, j], minlength=width) for j, width in enumerate(widths)])
