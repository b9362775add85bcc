"""Exact aggregates over ranges of an array, for many ranges at once."""

import numpy as np

from processing.arrays import Ints


def running_sums(values: Ints) -> Ints:
    """Sums of the first 0, 1, ... n values, [n + 1]. They may wrap around 2^64; their differences are still exact."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))


def range_minimum(values: Ints, low: Ints, high: Ints, nothing: int = 0) -> Ints:
    """The minimum of values[low:high] for each range, [q]; `nothing` for an empty range.

    Uses minima of 1, 2, 4, ... neighbours (a sparse table), one length at a time: O(n log n) time, O(n) memory.
    """
    result = np.full(len(low), nothing, np.int64)
    length = np.maximum(high - low, 0)
    level = np.frexp(length.astype(np.float64))[1] - 1  # floor(log2(length)); -1 for an empty range
    table, step = values, 1
    for each in range(int(level.max(initial=-1)) + 1):
        these = level == each
        result[these] = np.minimum(table[low[these]], table[high[these] - step])
        table, step = np.minimum(table[:-step], table[step:]), 2 * step
    return result


def range_maximum(values: Ints, low: Ints, high: Ints, nothing: int = 0) -> Ints:
    """The maximum of values[low:high] for each range, [q]; `nothing` for an empty range."""
    return -range_minimum(-values, low, high, -nothing)


def count_below(values: Ints, low: Ints, high: Ints, bound: Ints) -> Ints:
    """How many of values[low:high] are less than `bound`, for each range, [q]. No value or bound is negative.

    A wavelet matrix (Claude, Navarro and Ordóñez 2015), built and asked one bit at a time: O((n + q) log max) time.
    """
    low, high, count = low.copy(), high.copy(), np.zeros(len(low), np.int64)
    highest = max(int(values.max(initial=0)), int(bound.max(initial=0)))
    for bit in reversed(range(highest.bit_length())):
        is_one = (values >> bit) & 1 == 1
        zeros = running_sums((~is_one).astype(np.int64))
        below_low, below_high = zeros[low], zeros[high]
        one = (bound >> bit) & 1 == 1
        count += np.where(one, below_high - below_low, 0)
        low = np.where(one, zeros[-1] + low - below_low, below_low)
        high = np.where(one, zeros[-1] + high - below_high, below_high)
        values = np.concatenate((values[~is_one], values[is_one]))
    return count


def count_distinct(values: Ints, low: Ints, high: Ints) -> Ints:
    """How many different values are in values[low:high], for each range, [q].

    Counts the positions whose value was last seen before the range.
    """
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    seen = np.zeros(len(values), np.int64)  # one more than the position where the value was last seen
    seen[order[1:][same]] = order[:-1][same] + 1
    return count_below(seen, low, high, low + 1)


def count_equal(values: Ints, own: Ints, low: Ints, high: Ints) -> Ints:
    """How many of values[low:high] equal `own`, for each range, [q]."""
    _, codes = np.unique(np.concatenate((values, own)), return_inverse=True)
    width = len(values) + 1
    places = np.sort(codes[: len(values)] * width + np.arange(len(values)))
    base = codes[len(values) :] * width
    return np.searchsorted(places, base + high) - np.searchsorted(places, base + low)
