"""Sawtooth windows: what an entity did in the hours before an event. Offline for all events, online for one.

A window of W hours at time t, with b(t) the hour bucket of t, holds the entity's events whose bucket lies in
(b(t) - W, b(t)]: whole hours at its far end, and in the current hour the events before t and the event itself.
("Sawtooth window" is a term of the Chronon feature platform.) Events with the same timestamp have no known order, so
none of them sees the others, and the result does not depend on the order in which they arrive.

A fraud window is shifted back by the label delay D: it holds the buckets in [b(t) - D - W, b(t) - D), so that no
label is used before it can be known. The longest fraud window also gives the hours since its first and its last bucket
with a fraud, and the number of events in it after that last bucket.

All sums are exact integers: counts, amounts in minor units, and their squares. So offline and online agree bit for bit.
Cumulative sums may wrap around 2^64; their differences are still exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add

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
    def width(self) -> int:
        """How many columns the state has."""
        return 3 * (len(self.hours) + len(self.fraud_hours) + (1 if self.fraud_hours else 0))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the state.

        For each window: n, the count; s, the amount; q, the squares. For each fraud window: n, the count; f, the
        frauds; g, their amount. For the longest fraud window also first and last, the hours since its first and last
        fraud, and after, the count of events later than the last fraud; all 0 if there is no fraud.
        """
        behaviour = [f"{kind}_{hours}h" for hours in self.hours for kind in "nsq"]
        frauds = [f"delayed_{kind}_{hours}h" for hours in self.fraud_hours for kind in ("n", "f", "g")]
        recency = [f"delayed_{kind}_{hours}h" for hours in self.fraud_hours[-1:] for kind in ("first", "last", "after")]
        return (*behaviour, *frauds, *recency)

    def fraud_edges(self, hour: int) -> tuple[int, int]:
        """The hours at which the longest fraud window of an event in `hour` starts and ends."""
        delayed = hour - self.delay_hours
        return delayed - self.fraud_hours[-1], delayed

    @property
    def lookback_hours(self) -> int:
        """How many whole hours before the current one the windows reach."""
        return max(self.hours[-1] - 1, self.delay_hours + max(self.fraud_hours, default=-self.delay_hours))


def hour_of(time_us: Ints) -> Ints:
    """The hour bucket of times in microseconds since 1970."""
    return time_us // HOUR_US


def sawtooth(windows: Windows, entity: Ints, time_us: Ints, amount: Ints, fraud: Ints) -> Ints:
    """The state of every event's entity at its time, [n, len(windows.columns)] int64, in the order of the input.

    `entity` holds codes, `time_us` microseconds since 1970, `amount` minor units, `fraud` 0 or 1; each [n] int64, in
    any order. O(n log n), however the events are spread over entities.
    """
    if not len(entity):
        return np.zeros((0, len(windows.columns)), np.int64)
    order = np.lexsort((time_us, entity))
    entity, time_us, amount, fraud = entity[order], time_us[order], amount[order], fraud[order]
    hour = hour_of(time_us)
    hour -= hour.min() - windows.lookback_hours - 1  # so that no window reaches below 0 ...
    key = entity * (hour.max() + 1) + hour  # ... into the entity before
    events = _columns(amount, fraud)
    totals = {name: _running(values) for name, values in events.items()}

    starts = np.concatenate(([True], (entity[1:] != entity[:-1]) | (time_us[1:] != time_us[:-1])))
    before = np.maximum.accumulate(np.where(starts, np.arange(len(entity)), 0))  # first event at the same time

    def between(name: str, low: Ints, high: Ints) -> Ints:
        return totals[name][high] - totals[name][low]

    columns: list[Ints] = []
    for hours in windows.hours:
        low = np.searchsorted(key, key - hours, side="right")
        columns += [between(name, low, before) + events[name] for name in "nsq"]
    high = np.searchsorted(key, key - windows.delay_hours, side="left")
    for hours in windows.fraud_hours:
        low = np.searchsorted(key, key - windows.delay_hours - hours, side="left")
        columns += [between(name, low, high) for name in "nfg"]
    if windows.fraud_hours:
        columns += _recency(key, key[fraud > 0], low, high)
    state = np.empty((len(order), len(columns)), np.int64)
    state[order] = np.stack(columns, axis=1)
    return state


def _recency(key: Ints, frauds: Ints, low: Ints, high: Ints) -> list[Ints]:
    """Hours since the first and the last fraud in every event's longest fraud window, and the events after the last.

    `key` [n] holds each event's entity and hour as one number, sorted, and `frauds` those of the frauds. A window goes
    from index `low` of `key` to before index `high`.
    """
    edges = np.append(key, np.iinfo(np.int64).max)
    begin, end = (np.searchsorted(frauds, edges[index], side="left") for index in (low, high))
    some = end > begin
    padded = np.append(frauds, 0)
    first, last = padded[np.where(some, begin, -1)], padded[np.where(some, end - 1, -1)]
    after = high - np.searchsorted(key, last, side="right")
    return [np.where(some, values, 0) for values in (key - first, key - last, after)]


def _columns(amount: Ints, fraud: Ints) -> dict[str, Ints]:
    return {"n": np.ones_like(amount), "s": amount, "q": amount * amount, "f": fraud, "g": amount * fraud}


def _running(values: Ints) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))


def edges(windows: Windows, hour: int) -> list[int]:
    """The hours at which the windows of an event in `hour` start or end, oldest first."""
    delayed = windows.delay_hours
    offsets = {w - 1 for w in windows.hours} | {delayed, *(delayed + w for w in windows.fraud_hours)}
    return [hour - offset for offset in sorted(offsets, reverse=True)]


def state_at(windows: Windows, hour: int, amount: int, buckets: Ints, earlier: tuple[int, int, int]) -> list[int]:
    """The state of one event's entity, as `sawtooth` gives it.

    `buckets` is [m, 6] int64: hour, count, amount, squares, frauds and their amount, for the hours before `hour`,
    oldest first. Hours may be missing; those beyond `windows.lookback_hours` do not count. `earlier` holds count,
    amount and squares of the events of the current hour before this one.
    """
    hours = edges(windows, hour)
    totals = np.zeros((len(buckets) + 1, 5), np.int64)
    np.cumsum(buckets[:, 1:], axis=0, out=totals[1:])
    at = dict(zip(hours, np.searchsorted(buckets[:, 0], hours, side="left").tolist(), strict=True))
    since = {edge: (totals[-1] - totals[index]).tolist() for edge, index in at.items()}
    frauds = None
    if windows.fraud_hours:
        low, high = windows.fraud_edges(hour)
        fraudulent = at[low] + np.flatnonzero(buckets[at[low] : at[high], 4] > 0)
        if len(fraudulent):
            first, last = (int(buckets[index, 0]) for index in (fraudulent[0], fraudulent[-1]))
            frauds = (first, last, int(totals[at[high], 0] - totals[fraudulent[-1] + 1, 0]))
    return state_since(windows, hour, amount, since, earlier, frauds)


def state_since(
    windows: Windows,
    hour: int,
    amount: int,
    since: Mapping[int, Sequence[int]],
    earlier: Sequence[int],
    frauds: tuple[int, int, int] | None,
) -> list[int]:
    """The state of one event's entity, as `state_at`, from sums.

    `since[edge]` holds count, amount, squares, frauds and their amount from that edge up to `hour`. `frauds` holds, for
    the longest fraud window, the hours of its first and its last fraud and the count of events after that last hour;
    None if it has no fraud.
    """
    state: list[int] = []
    own = (earlier[0] + 1, earlier[1] + amount, earlier[2] + amount * amount)
    for w in windows.hours:
        state += map(add, since[hour - w + 1], own)  # the first three of the five sums
    delayed = hour - windows.delay_hours
    later = since[delayed]
    for w in windows.fraud_hours:
        from_then = since[delayed - w]
        state += [from_then[i] - later[i] for i in (0, 3, 4)]
    if windows.fraud_hours:
        first, last, after = frauds or (hour, hour, 0)
        state += [hour - first, hour - last, after]
    return state
