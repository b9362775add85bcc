"""Histograms with quantile bins, a bin for frequent single values and one for missing values."""

from collections.abc import Sequence

import numpy as np

from processing.arrays import Floats, Ints

BINS = 10


def histogram(values: Floats) -> dict[str, list[float]]:
    """Bins of about equal counts, and the counts in them: {"edges", "counts"}.

    Bin i holds the values in (edges[i - 1], edges[i]]; the first and the last bin are unbounded, and one more counts
    the missing values (NaN). A value that fills more than a bin's share gets a bin of its own.
    """
    present = values[~np.isnan(values)]
    cuts = np.quantile(present, np.arange(1, BINS) / BINS, method="inverted_cdf") if len(present) else np.empty(0)
    edges, times = np.unique(cuts, return_counts=True)
    frequent = edges[times > 1]
    edges = np.union1d(edges, np.nextafter(frequent, -np.inf))
    return {"edges": edges.tolist(), "counts": bin_counts(values, edges).tolist()}


def bin_counts(values: Floats, edges: Sequence[float] | Floats) -> Ints:
    """How many values lie in each bin of a histogram, [len(edges) + 2]; the last bin counts the missing ones."""
    return np.bincount(bin_indices(values, edges), minlength=len(edges) + 2).astype(np.int64)


def bin_indices(values: Floats, edges: Sequence[float] | Floats) -> Ints:
    """The bin of every value in a histogram, from 0; the last one holds the missing values."""
    indices = np.searchsorted(np.asarray(edges, np.float64), values, side="left")
    return np.where(np.isnan(values), len(edges) + 1, indices).astype(np.int64)
