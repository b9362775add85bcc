"""The sawtooth windows: equal to their definition written out, offline and online, and blind to the future."""

from random import Random
from typing import NamedTuple

import numpy as np
from held_tiles import HeldTiles
from hypothesis import given
from hypothesis import strategies as st

from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, MINUTE_US, SECOND_US, tile_of
from processing.features.aggregated_events import NAN_BITS, EventValues, Input
from processing.features.aggregates import Aggregate, Amount, Count, Distinct, Extremes, Last, Recency, Share
from processing.features.fraud_windows import NEVER, FraudWindow, Labels
from processing.features.tiles import MOST_DISTINCT, FraudTile
from processing.features.window_layout import Window
from processing.features.windows import EntityWindows, Events

START = 20_454 * DAY_US
AGGREGATES: tuple[Aggregate, ...] = (
    *(Count(), Amount(), Extremes(), Recency()),
    *(Share("channel", ("chip", "online", "at = '1'")), Distinct("shop"), Last(("lat", "lon"))),
)
CODE, HASH, LAT, LON = (Input("code", "channel"), Input("hash", "shop"), Input("bits", "lat"), Input("bits", "lon"))


class Row(NamedTuple):
    entity: int
    time_us: int
    amount: int
    channel: int
    shop: int
    place: int
    known: int | None  # five-minute tile in which it became known as fraud
    withdrawn: int


class Stream(NamedTuple):
    rows: list[Row]

    @property
    def events(self) -> Events:
        columns = np.array([row[:6] for row in self.rows], np.int64).reshape(-1, 6).T
        entity, time_us, amount, channel, shop, place = columns
        return Events(entity, time_us, amount, {CODE: channel, HASH: shop, LAT: place, LON: -place})

    @property
    def labels(self) -> Labels:
        some = [(row.entity, row.known, row.withdrawn, row.amount) for row in self.rows if row.known is not None]
        return Labels(*np.array(some, np.int64).reshape(-1, 4).T)


def window(us: int) -> Window:
    return Window(f"{us}", us, tile_of(us))


FINE = st.integers(1, 30).map(lambda count: count * FIVE_MINUTES_US)
HOURLY = st.integers(13, 40).map(lambda count: count * HOUR_US)
DAILY = st.integers(13, 20).map(lambda count: count * DAY_US)


@st.composite
def some_windows(draw: st.DrawFn) -> EntityWindows:
    lengths = draw(st.sets(FINE | HOURLY | DAILY, min_size=1, max_size=4))
    size = draw(st.sampled_from([HOUR_US, DAY_US]))
    frauds = draw(st.sets(st.integers(1, 20), max_size=2))
    return EntityWindows(
        tuple(window(length) for length in sorted(lengths)),
        tuple(
            FraudWindow(f"{count}", count * size, size, draw(st.sampled_from([FIVE_MINUTES_US, HOUR_US])))
            for count in sorted(frauds)
        ),
        draw(st.integers(0, 9)) * DAY_US,
        AGGREGATES,
        (draw(st.sampled_from([SECOND_US, MINUTE_US])), FIVE_MINUTES_US, HOUR_US, DAY_US),
    )


# Few moments, most of them at the edges of tiles: ties and edge cases are the rule.
edges = st.sampled_from([-1, 0, 1, SECOND_US - 1, SECOND_US, MINUTE_US, FIVE_MINUTES_US - 1, HOUR_US - 1])
steps = st.sampled_from([0, FIVE_MINUTES_US, 2 * FIVE_MINUTES_US, HOUR_US, 14 * HOUR_US, DAY_US, 13 * DAY_US])
moments = st.builds(lambda step, times, edge: START + step * times + edge, steps, st.integers(0, 3), edges)
amounts = st.integers(-(10**12), 10**12) | st.integers(0, 1000)
rows = st.builds(
    lambda entity, time_us, amount, channel, shop, place, delay, stands: Row(
        entity, time_us, amount, channel, shop, place,
        None if delay is None else time_us // FIVE_MINUTES_US + delay,
        NEVER if stands is None or delay is None else time_us // FIVE_MINUTES_US + delay + stands,
    ),
    st.integers(0, 1), moments, amounts, st.integers(-1, 2), st.integers(0, 40), st.integers(-5, 5),
    st.none() | st.integers(0, 2000), st.none() | st.integers(0, 3000),
)  # fmt: skip
streams = st.lists(rows, max_size=14).map(Stream)


def by_definition(windows: EntityWindows, stream: Stream, i: int) -> list[int]:
    """The state of event i, as the module's docstring defines it."""
    me = stream.rows[i]
    own = [row for row in stream.rows if row.entity == me.entity]
    earlier = [row for row in own if row.time_us // windows.levels[0] < me.time_us // windows.levels[0]]
    state: list[int] = []
    for each in windows.windows:
        size, count = each.tile_us, each.us // each.tile_us
        held = [row for row in earlier if row.time_us // size > me.time_us // size - count]
        squares = sum(row.amount**2 for row in held)
        limbs = [sum((row.amount**2 >> shift) % 2**27 for row in held) for shift in (0, 27, 54)]
        assert sum(limb << shift for limb, shift in zip(limbs, (0, 27, 54), strict=True)) == squares
        values = [row.amount for row in held]
        state += [len(held), sum(values), *limbs, min(values, default=0), max(values, default=0)]
        longest = each == windows.windows[-1]
        if longest:
            times = [row.time_us for row in held]
            state += [min(times, default=0), max(times, default=0)]
        state.append(sum(row.channel == me.channel >= 0 for row in held))
        state.append(min(len({row.shop for row in held}), MOST_DISTINCT + 1))
        if longest:
            last = max(held, key=lambda row: (row.time_us, row.place % 2**64), default=None)
            state += [last.place, -last.place] if last else [NAN_BITS, NAN_BITS]
    now = me.time_us // FIVE_MINUTES_US
    known: list[Row] = []
    for fraud in windows.fraud_windows:
        size = fraud.tile_us
        end = me.time_us // size - windows.delay_us // size
        judged = [row.time_us // size for row in own if end - fraud.us // size <= row.time_us // size < end]
        edge = (me.time_us // fraud.edge_us * fraud.edge_us - fraud.us) // FIVE_MINUTES_US
        known = [row for row in own if row.known is not None and edge <= row.known < now <= row.withdrawn]
        state += [len(judged), len(known), sum(row.amount for row in known)]
    if windows.fraud_windows and not known:
        state += [0, 0, 0]
    elif windows.fraud_windows:
        unit, tiles = fraud.edge_us, sorted(row.known for row in known if row.known is not None)
        state += [me.time_us // unit - tile * FIVE_MINUTES_US // unit for tile in (tiles[0], tiles[-1])]
        last_judged = tiles[-1] * FIVE_MINUTES_US // size - windows.delay_us // size
        every = [row.time_us // size for row in own]
        state.append(sum(last_judged < tile < end for tile in every))
    return state


def values_of(row: Row) -> EventValues:
    columns = {CODE: row.channel, HASH: row.shop, LAT: row.place, LON: -row.place}
    return EventValues(row.time_us, row.amount, columns)


def tiles_at(windows: EntityWindows, stream: Stream, i: int) -> HeldTiles:
    """The tiles that a store holds for event i's entity, of all events, and the frauds that stand when it happens."""
    me = stream.rows[i]
    own = [row for row in stream.rows if row.entity == me.entity]
    now = me.time_us // FIVE_MINUTES_US
    frauds = [FraudTile(row.known, 1, row.amount) for row in own if row.known is not None and row.withdrawn >= now]
    return HeldTiles(windows, map(values_of, own), frauds)


@given(some_windows(), streams)
def test_equals_the_definition(windows: EntityWindows, stream: Stream) -> None:
    expected = [by_definition(windows, stream, i) for i in range(len(stream.rows))]
    states = windows.states(stream.events, stream.labels)
    assert states.dtype == np.int64
    assert states.shape == (len(stream.rows), len(windows.state_names))
    assert states.tolist() == expected


@given(some_windows(), streams)
def test_online_equals_offline_for_the_same_history(windows: EntityWindows, stream: Stream) -> None:
    offline = windows.states(stream.events, stream.labels)
    for i, row in enumerate(stream.rows):
        assert windows.state_at(values_of(row), tiles_at(windows, stream, i)) == offline[i].tolist()


@given(some_windows(), streams, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(windows: EntityWindows, stream: Stream, random: Random) -> None:
    order = random.sample(range(len(stream.rows)), len(stream.rows))
    shuffled = Stream([stream.rows[i] for i in order])
    states = windows.states(stream.events, stream.labels)
    assert np.array_equal(windows.states(shuffled.events, shuffled.labels), states[order])


@given(some_windows(), streams, streams, moments)
def test_later_transactions_and_labels_change_no_state(
    windows: EntityWindows, past: Stream, other: Stream, now: int
) -> None:
    past = Stream([row for row in past.rows if row.time_us <= now])
    later = [row for row in other.rows if row.time_us >= now]
    tile = now // FIVE_MINUTES_US
    unknown = [row._replace(known=tile, withdrawn=NEVER) if row.known is None else row for row in past.rows]
    both = Stream([*unknown, *later])
    assert np.array_equal(
        windows.states(both.events, both.labels)[: len(past.rows)], windows.states(past.events, past.labels)
    )


def test_running_sums_may_wrap_around() -> None:
    windows, many = EntityWindows((window(HOUR_US),), (), 0, (Count(), Amount())), 40
    stream = Stream([Row(0, START + 2 * i * HOUR_US, 2**62, 0, 0, 0, None, NEVER) for i in range(many)])
    states = windows.states(stream.events._replace(amount=stream.events.amount >> 22), stream.labels)
    assert (states == 0).all()  # every event lies two hours after the one before


def test_no_events_have_no_state() -> None:
    windows = EntityWindows((window(HOUR_US),), (), 0, AGGREGATES)
    assert windows.states(Stream([]).events, Stream([]).labels).shape == (0, len(windows.state_names))
