"""Sawtooth windows: what an entity did in the hours before an event, offline for all events, online for one.

A window of W hours at time t, with b(t) the hour bucket of t, holds the entity's events whose bucket lies in
(b(t) - W, b(t)]: whole hours at its far end, and of the current hour the events before t and the event itself.
(The name is that of the Chronon feature platform.) Events with the same timestamp have no known order, so none
of them sees the others; the answer does not depend on the order in which they arrive.

A fraud window is shifted by the label delay D: it holds the buckets in [b(t) - D - W, b(t) - D), so that no
label is used before it could be known.

All sums are exact integers: counts, amounts in minor units, squares of those. Offline and online therefore
agree bit for bit. Cumulative sums may wrap around 2^64, and their differences are exact nevertheless.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The windows of one entity, in whole hours, shortest first."""

    hours: tuple[int, ...]
    fraud_hours: tuple[int, ...]
    delay_hours: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The state's columns: per window its count n and amount s, q the longest one's squares, fraud n and f."""
        behaviour = [f"{kind}_{hours}h" for hours in self.hours for kind in ("n", "s")]
        frauds = [f"delayed_{kind}_{hours}h" for hours in self.fraud_hours for kind in ("n", "f")]
        return (*behaviour, f"q_{self.hours[-1]}h", *frauds)

    @property
    def lookback_hours(self) -> int:
        """How many whole hours before the current one are needed."""
        return max(self.hours[-1] - 1, self.delay_hours + max(self.fraud_hours, default=-self.delay_hours))


def hour_of(time_us: Ints) -> Ints:
    """The hour bucket of times in microseconds since 1970."""
    return time_us // HOUR_US


def sawtooth(windows: Windows, entity: Ints, time_us: Ints, amount: Ints, fraud: Ints) -> Ints:
    """The state of every event's entity at its time, [n, len(windows.columns)] int64, in the order given.

    `entity` are codes, `time_us` microseconds since 1970, `amount` minor units, `fraud` 0 or 1, each [n] int64.
    Events in any order; O(n log n) however the events are spread over entities.
    """
    if not len(entity):
        return np.zeros((0, len(windows.columns)), np.int64)
    order = np.lexsort((time_us, entity))
    entity, time_us, amount, fraud = entity[order], time_us[order], amount[order], fraud[order]
    hour = hour_of(time_us)
    hour -= hour.min() - windows.lookback_hours - 1  # so that no window reaches below 0 ...
    key = entity * (hour.max() + 1) + hour  # ... into the entity before
    totals = {name: _running(values) for name, values in _columns(amount, fraud).items()}

    starts = np.concatenate(([True], (entity[1:] != entity[:-1]) | (time_us[1:] != time_us[:-1])))
    before = np.maximum.accumulate(np.where(starts, np.arange(len(entity)), 0))  # first event at the same time

    def between(name: str, low: Ints, high: Ints) -> Ints:
        return totals[name][high] - totals[name][low]

    columns: list[Ints] = []
    low = before
    for hours in windows.hours:
        low = np.searchsorted(key, key - hours, side="right")
        columns += [between("n", low, before) + 1, between("s", low, before) + amount]
    columns.append(between("q", low, before) + amount * amount)
    high = np.searchsorted(key, key - windows.delay_hours, side="left")
    for hours in windows.fraud_hours:
        low = np.searchsorted(key, key - windows.delay_hours - hours, side="left")
        columns += [between("n", low, high), between("f", low, high)]
    state = np.empty((len(order), len(columns)), np.int64)
    state[order] = np.stack(columns, axis=1)
    return state


def _columns(amount: Ints, fraud: Ints) -> dict[str, Ints]:
    return {"n": np.ones_like(amount), "s": amount, "q": amount * amount, "f": fraud}


def _running(values: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))


def state_at(windows: Windows, hour: int, amount: int, buckets: Ints, earlier: tuple[int, int, int]) -> list[int]:
    """The state of one event's entity, as `sawtooth` gives it.

    `buckets` is [m, 5] int64: hour, count, amount, squares, frauds of the hours before `hour`, oldest first
    (an hour may be missing; older ones than `windows.lookback_hours` do not count). `earlier` holds count, amount
    and squares of the events of the current hour before this one.
    """
    hours = buckets[:, 0]
    totals = np.zeros((len(buckets) + 1, 4), np.int64)
    np.cumsum(buckets[:, 1:], axis=0, out=totals[1:])
    edges = [hour - w + 1 for w in windows.hours]
    delayed = hour - windows.delay_hours
    edges += [delayed, *(delayed - w for w in windows.fraud_hours)]
    at = np.searchsorted(hours, edges, side="left")
    sums = totals[at].tolist()
    end = totals[-1].tolist()

    state: list[int] = []
    behaviour = sums[: len(windows.hours)]
    for low in behaviour:
        state += [end[0] - low[0] + earlier[0] + 1, end[1] - low[1] + earlier[1] + amount]
    state.append(end[2] - behaviour[-1][2] + earlier[2] + amount * amount)
    high = sums[len(windows.hours)]
    for low in sums[len(windows.hours) + 1 :]:
        state += [high[0] - low[0], high[3] - low[3]]
    return state
