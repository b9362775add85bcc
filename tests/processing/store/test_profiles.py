"""Profiles: the state that they give is the one that the feature job computes, however they came about."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from processing.contract import Contract
from processing.contracts.reader import parse
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, MINUTE_US, SECOND_US
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
from processing.features.table_features import window_states
from processing.store.decisions import Event
from processing.store.profiles.frauds import ASSUMED
from processing.store.profiles.packing import pack, unpack
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Profile
from processing.store.profiles.settling import settled_profiles

HEAD = """
name = "cards"
numeric = ["lat", "lon"]
[columns]
id = "transaction_id"
time = "time"
amount = "amount"
label = "is_fraud"
[label]
delay_days = {delay}
[categorical]
channel = ["chip", "online"]
"""
TILES = (
    HEAD
    + """
[[entity]]
name = "customer"
column = "customer_id"
windows = ["10m", "6h", "1d", "13d"]
fraud_windows = ["2d", "13d"]
aggregates = ["amount", "extremes", "recency", "share:channel", "distinct:terminal_id", "last:lat,lon"]
[[entity]]
name = "terminal"
column = "terminal_id"
windows = ["5m", "1d"]
fraud_windows = ["1d"]
busy = true
[[entity]]
name = "pair"
columns = ["customer_id", "terminal_id"]
windows = ["30d"]
aggregates = ["recency"]
"""
)
DAYS = (
    HEAD
    + """
[[entity]]
name = "customer"
column = "customer_id"
windows_days = [1, 3]
fraud_windows_days = [2]
[[entity]]
name = "terminal"
column = "terminal_id"
windows_days = [1]
"""
)
CONTRACTS = [parse(text.format(delay=delay)) for text in (TILES, DAYS) for delay in (0, 2)]
START = 20_454 * DAY_US
edges = st.sampled_from([0, 1, SECOND_US, MINUTE_US, FIVE_MINUTES_US, HOUR_US - 1])
steps = st.sampled_from([FIVE_MINUTES_US, 2 * FIVE_MINUTES_US, HOUR_US, 14 * HOUR_US, DAY_US, 10 * DAY_US])
times = st.builds(lambda step, count, edge: START + step * count + edge, steps, st.integers(0, 3), edges)
events = st.builds(
    lambda time_us, amount, customer, terminal, channel, place: Event(
        "", time_us, amount, (customer, terminal), (("lat", place), ("lon", None), ("channel", channel))
    ),
    times,
    st.integers(-(10**12), 10**12),
    st.sampled_from("ab"),
    st.sampled_from("st"),
    st.sampled_from(["chip", "online", "radio", None]),
    st.none() | st.floats(-90, 90),
)
streams = st.lists(events, min_size=1, max_size=12).map(
    lambda drawn: [Event(str(i), *(e.time_us, e.amount, e.keys, e.extras)) for i, e in enumerate(drawn)]
)


def table(contract: Contract, stream: Sequence[Event], frauds: set[str], time: str) -> pa.Table:
    """The transactions as in the tables; the time is in a column of that name."""
    columns = {
        "transaction_id": pa.array([e.transaction_id for e in stream], pa.string()),
        time: pa.array([e.time_us for e in stream], pa.int64() if time == "us" else pa.timestamp("us", "UTC")),
        "amount_minor": pa.array([e.amount for e in stream], pa.int64()),
        "is_fraud": pa.array([int(e.transaction_id in frauds) for e in stream], pa.int32()),
    }
    columns |= {name: pa.array([e.keys[i] for e in stream], pa.string()) for i, name in enumerate(contract.key_names)}
    for name, kind in (("lat", pa.float64()), ("lon", pa.float64()), ("channel", pa.string())):
        columns[name] = pa.array([dict(e.extras)[name] for e in stream], kind)
    return pa.table(columns)


def offline(contract: Contract, stream: Sequence[Event], frauds: set[str]) -> list[list[int]]:
    """The state of every event, as the feature job computes it."""
    rows = table(contract, stream, frauds, "event_time")
    for name in ("lat", "lon"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).fill_null(np.nan))
    return window_states(FeatureSet(contract), rows).tolist()  # type: ignore[no-any-return]


class Store:
    """The least that can hold profiles."""

    def __init__(self, plan: ProfilePlan) -> None:
        self.plan = plan
        self.packed: dict[tuple[str, str], bytes] = {}

    def profile(self, entity: str, key: str) -> Profile:
        layout = self.plan.layouts[entity]
        data = self.packed.get((entity, key))
        return unpack(layout, data) if data else Profile(layout)

    def count(self, event: Event, prune: bool) -> None:
        for each in self.plan.counted(event):
            profile = self.profile(each.entity, each.key)
            profile.count(each)
            if prune:
                profile.prune(event.time_us)
            self.packed[each.entity, each.key] = pack(profile)

    def report(self, event: Event, is_fraud: bool) -> None:
        for each in self.plan.counted(event):
            profile = self.profile(each.entity, each.key)
            profile.report(each, is_fraud, ASSUMED)
            self.packed[each.entity, each.key] = pack(profile)

    def state(self, event: Event, plan: StatePlan | None = None) -> list[int]:
        return self.plan.state(event, plan, lambda entity, key: [self.profile(entity, key)])


@given(st.sampled_from(CONTRACTS), streams, st.data())
def test_counted_in_any_order_a_profile_gives_the_state_of_the_feature_job(
    contract: Contract, stream: list[Event], data: st.DataObject
) -> None:
    store, frauds = Store(ProfilePlan(contract)), set()
    for event in data.draw(st.permutations(stream)):
        store.count(event, prune=False)
    for event in stream:
        if data.draw(st.booleans()):
            store.report(event, True)
            frauds.add(event.transaction_id)
        if data.draw(st.booleans()):
            store.report(event, False)
            frauds.discard(event.transaction_id)
    expected = offline(contract, stream, frauds)
    assert [store.state(event) for event in stream] == expected


@given(st.sampled_from(CONTRACTS), streams, times, st.data())
def test_settled_and_counted_transactions_together_give_the_state_of_the_feature_job(
    contract: Contract, stream: list[Event], horizon: int, data: st.DataObject
) -> None:
    horizon_us = horizon // HOUR_US * HOUR_US
    plan = ProfilePlan(contract)
    store = Store(plan)
    frauds = {event.transaction_id for event in stream if data.draw(st.booleans())}
    for event in stream:  # before the refresh
        if data.draw(st.booleans()) or event.time_us >= horizon_us:
            store.count(event, prune=True)
    rows = table(contract, stream, frauds, "us")
    for entity in plan.layouts:
        for settled in settled_profiles(plan, entity, rows, horizon_us):
            profile = store.profile(entity, settled.key)
            profile.settle(unpack(plan.layouts[entity], settled.data))
            store.packed[entity, settled.key] = pack(profile)
    for event in stream:
        if event.transaction_id in frauds and event.time_us >= horizon_us:
            store.report(event, True)
    newest = max(event.time_us for event in stream)
    expected = offline(contract, stream, frauds)
    for event, state in zip(stream, expected, strict=True):
        if event.time_us >= max(horizon_us, newest - HOUR_US):  # later than that no tile is dropped
            assert store.state(event) == state


@given(st.sampled_from(CONTRACTS), st.sampled_from(CONTRACTS), streams)
def test_profiles_serve_two_contracts_at_once(ours: Contract, theirs: Contract, stream: list[Event]) -> None:
    both = ProfilePlan(ours, [theirs])
    store = Store(both)
    for event in stream:
        store.count(event, prune=False)
    for plan in both.plans:
        expected = offline(plan.contract, stream, set())
        for event, state in zip(stream, expected, strict=True):
            assert store.state(event, plan) == state
