"""Sawtooth windows: equal to their definition, offline and online, and independent of later events."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processing.features.windows import HOUR_US, Ints, Windows, hour_of, sawtooth, state_at

Stream = tuple[Ints, Ints, Ints, Ints]  # entity, time, amount, fraud
BEGIN = 490_000  # hours since 1970


@st.composite
def some_windows(draw: st.DrawFn) -> Windows:
    hours = draw(st.sets(st.integers(1, 40), min_size=1, max_size=3))
    fraud_hours = draw(st.sets(st.integers(1, 40), max_size=2))
    return Windows(tuple(sorted(hours)), tuple(sorted(fraud_hours)), draw(st.integers(0, 30)))


# Few hours, and moments at their edges, so that ties and edge cases are common.
moments = st.builds(
    lambda hour, second: (BEGIN + hour) * HOUR_US + second,
    st.integers(0, 5) | st.integers(0, 90),
    st.sampled_from([0, 1, HOUR_US // 2, HOUR_US - 1]),
)
events = st.tuples(st.integers(0, 2), moments, st.integers(0, 10**7), st.integers(0, 1))


def as_stream(rows: list[tuple[int, int, int, int]]) -> Stream:
    entity, time_us, amount, fraud = np.array(rows, np.int64).reshape(-1, 4).T
    return entity, time_us, amount, fraud


streams = st.lists(events, max_size=25).map(as_stream)


def by_definition(windows: Windows, stream: Stream, i: int) -> list[int]:
    """The state of event i, as the module's docstring defines it."""
    entity, time_us, amount, fraud = stream
    hour, own = time_us // HOUR_US, entity == entity[i]
    itself = np.arange(len(entity)) == i
    state = []
    for width in windows.hours:
        inside = own & (hour > hour[i] - width) & (time_us < time_us[i]) | itself
        state += [int(inside.sum()), int(amount[inside].sum()), int((amount[inside] ** 2).sum())]
    for width in windows.fraud_hours:
        end = hour[i] - windows.delay_hours
        inside = own & (hour >= end - width) & (hour < end)
        state += [int(inside.sum()), int(fraud[inside].sum()), int((amount * fraud)[inside].sum())]
    if windows.fraud_hours:
        frauds = hour[inside & (fraud == 1)]
        if len(frauds):
            after = inside & (hour > frauds.max())
            state += [int(hour[i] - frauds.min()), int(hour[i] - frauds.max()), int(after.sum())]
        else:
            state += [0, 0, 0]
    return state


@given(some_windows(), streams)
def test_the_state_equals_its_definition(windows: Windows, stream: Stream) -> None:
    expected = [by_definition(windows, stream, i) for i in range(len(stream[0]))]
    state = sawtooth(windows, *stream)
    assert state.dtype == np.int64
    assert state.shape == (len(stream[0]), len(windows.columns))
    assert state.tolist() == expected


def buckets_of(stream: Stream, own: NDArray[np.bool_], hours: range) -> Ints:
    """Buckets as in a store: hour, count, amount, squares, frauds and their amount, for hours with events."""
    _, time_us, amount, fraud = stream
    rows = []
    for hour in hours:
        inside = own & (hour_of(time_us) == hour)
        if inside.any():
            values, frauds = amount[inside], fraud[inside]
            sums = (values.sum(), (values**2).sum(), frauds.sum(), (values * frauds).sum())
            rows.append([hour, len(values), *sums])
    return np.array(rows, np.int64).reshape(-1, 6)


@given(some_windows(), streams, st.integers(0, 50))
def test_online_equals_offline_for_the_same_history(windows: Windows, stream: Stream, more: int) -> None:
    offline = sawtooth(windows, *stream)
    entity, time_us, amount, _ = stream
    for i in range(len(entity)):
        own, hour = entity == entity[i], int(hour_of(time_us)[i])
        buckets = buckets_of(stream, own, range(hour - windows.lookback_hours - more, hour))
        before = amount[own & (hour_of(time_us) == hour) & (time_us < time_us[i])]
        earlier = (len(before), int(before.sum()), int((before**2).sum()))
        assert state_at(windows, hour, int(amount[i]), buckets, earlier) == offline[i].tolist()


@given(some_windows(), streams, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(windows: Windows, stream: Stream, random: Random) -> None:
    order = np.array(random.sample(range(len(stream[0])), len(stream[0])), np.int64)
    shuffled = sawtooth(windows, *(column[order] for column in stream))
    assert np.array_equal(shuffled, sawtooth(windows, *stream)[order])


@given(some_windows(), streams, streams, moments)
def test_later_transactions_change_no_state(windows: Windows, past: Stream, other: Stream, now: int) -> None:
    until, after = past[1] <= now, other[1] >= now
    known = sawtooth(windows, *(column[until] for column in past))
    both = [np.concatenate((p[until], o[after])) for p, o in zip(past, other, strict=True)]
    assert np.array_equal(sawtooth(windows, *both)[: len(known)], known)


@given(some_windows(), streams, moments, st.data())
def test_labels_within_the_delay_change_no_state(
    windows: Windows, stream: Stream, now: int, data: st.DataObject
) -> None:
    entity, time_us, amount, fraud = stream
    unknown = time_us > now - windows.delay_hours * HOUR_US
    flips = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(fraud), max_size=len(fraud))), np.int64)
    relabelled = np.where(unknown, fraud ^ flips, fraud)
    until = time_us <= now
    changed = sawtooth(windows, entity, time_us, amount, relabelled)
    assert np.array_equal(changed[until], sawtooth(windows, *stream)[until])


@given(some_windows(), streams)
def test_another_entitys_events_change_no_state(windows: Windows, stream: Stream) -> None:
    together = sawtooth(windows, *stream)
    for code in np.unique(stream[0]):
        own = stream[0] == code
        assert np.array_equal(sawtooth(windows, *(column[own] for column in stream)), together[own])


@pytest.mark.parametrize("entities", [1, 20_000])
def test_the_state_is_exact_for_one_busy_entity_and_for_many(entities: int) -> None:
    random, n = np.random.default_rng(3), 20_000
    windows = Windows((24, 168, 720), (24, 168, 720), 168)
    time_us = random.integers(BEGIN, BEGIN + 1500, n) * HOUR_US + random.integers(0, 3600, n) * 1_000_000
    stream = (random.integers(0, entities, n), time_us, random.integers(0, 10**7, n), random.integers(0, 2, n))
    state = sawtooth(windows, *stream)
    for i in random.integers(0, n, 100):
        assert state[i].tolist() == by_definition(windows, stream, i)


def test_a_window_ends_at_the_event_and_begins_with_a_whole_hour() -> None:
    windows = Windows((2,), (1,), 1)
    minutes = np.array([0, 59, 60, 90, 119, 120, 121]) * 60_000_000 + BEGIN * HOUR_US
    ones = np.ones(len(minutes), np.int64)
    state = sawtooth(windows, 0 * ones, minutes, ones, ones)
    recency = ("delayed_first_1h", "delayed_last_1h", "delayed_after_1h")
    assert windows.columns == ("n_2h", "s_2h", "q_2h", "delayed_n_1h", "delayed_f_1h", "delayed_g_1h", *recency)
    assert state[:, 0].tolist() == [1, 2, 3, 4, 5, 4, 5]
    assert state[:, 3].tolist() == [0, 0, 0, 0, 0, 2, 2]


def test_running_sums_that_wrap_around_give_exact_results() -> None:
    windows, many = Windows((1,), (), 0), 20
    amount = np.full(many, 3_000_000_000, np.int64)  # twenty squares of it exceed 2^64, one does not exceed 2^63
    time_us = (BEGIN + np.arange(many)) * HOUR_US
    state = sawtooth(windows, np.zeros(many, np.int64), time_us, amount, np.zeros(many, np.int64))
    assert state.tolist() == [[1, 3_000_000_000, 9_000_000_000_000_000_000]] * many


def test_no_events_have_no_state() -> None:
    windows = Windows((1, 24), (24,), 24)
    assert sawtooth(windows, *as_stream([])).shape == (0, len(windows.columns))
