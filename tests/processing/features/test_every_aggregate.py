"""Every aggregate, from transactions to features: the same bits for one payment online as for a table offline."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from every_aggregate import TEXT
from held_tiles import HeldTiles
from hypothesis import given
from hypothesis import strategies as st

from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts.reader import parse
from processing.durations import DAY_US, FIVE_MINUTES_US, HOUR_US, MINUTE_US, SECOND_US
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import EntityEvent, StatePlan
from processing.features.table_features import compute_rows, window_states
from processing.features.tiles import FraudTile
from processing.tables.schemas import TIME, transaction_schema

EXPRESSIONS = {
    "to_largest": "amount / customer.amount_max_30d",
    "tested": "where(customer.hours_since_last < 0.5, customer.count_10m, 0)",
    "speed": "distance_km(lat, lon, customer.last_lat, customer.last_lon) / customer.hours_since_last",
    "unusual": "(1 - customer.share_channel_30d) * customer.distinct_terminal_id_1d",
    "novel": "where(visitor.count_30d == 1 and terminal.fraud_count_6h > 0, to_largest, terminal.amount_min_7d)",
}
CONTRACT = parse(TEXT + "".join(f'[[feature]]\nname = "{name}"\nis = "{text}"\n' for name, text in EXPRESSIONS.items()))
FEATURES, PLAN = FeatureSet(CONTRACT), StatePlan(CONTRACT)
START = 20_454 * DAY_US
Payment = Mapping[str, Any]

edges = st.sampled_from(
    [-1, 0, 1, SECOND_US, MINUTE_US, FIVE_MINUTES_US, HOUR_US - 1, 7 * HOUR_US, DAY_US, 13 * DAY_US]
)
numbers = st.none() | st.floats(-180, 180) | st.sampled_from([0.0, -0.0])
payments = st.fixed_dictionaries(
    {
        "time_us": st.builds(lambda times, step, edge: START + times * step + edge, st.integers(0, 3), edges, edges),
        "amount_minor": st.integers(-(10**12), 10**12) | st.integers(-1000, 1000),
        "customer": st.sampled_from(["a", "b"]),
        "terminal": st.sampled_from(["x", "y", 'b","x']),
        "lat": numbers,
        "lon": numbers,
        "channel": st.sampled_from([None, *CONTRACT.categorical["channel"], "pigeon"]),
        "is_fraud": st.sampled_from([None, 0, 1]),
    }
)


def table_of(stream: list[Payment], contract: Contract = CONTRACT) -> pa.Table:
    """The payments as accepted transactions."""
    schema = transaction_schema(contract)
    plain = pa.schema([field.with_type(pa.int64()) if field.type == TIME else field for field in schema])
    rows = [{**each, "transaction_id": str(i), "event_time": each["time_us"]} for i, each in enumerate(stream)]
    return pa.Table.from_pylist(rows, plain).cast(schema)


def offline(stream: list[Payment], contract: Contract = CONTRACT) -> Floats:
    features, rows = FeatureSet(contract), table_of(stream, contract)
    return compute_rows(features, rows, window_states(features, rows))


def events_of(payment: Payment) -> list[EntityEvent]:
    keys = [payment[name] for name in CONTRACT.key_names]
    return PLAN.of(payment["time_us"], payment["amount_minor"], keys, payment)


def held_tiles(entity: int, events: list[EntityEvent], stream: list[Payment]) -> dict[str, HeldTiles]:
    """The tiles of every key of an entity, of all its payments, and the frauds by the time they become known."""
    windows, held = PLAN.windows[entity], {}
    for key in {event.key for event in events}:
        own = [(event, payment) for event, payment in zip(events, stream, strict=True) if event.key == key]
        frauds = [
            FraudTile(event.fraud_tile(), 1, payment["amount_minor"]) for event, payment in own if payment["is_fraud"]
        ]
        held[key] = HeldTiles(windows, (event.values for event, _ in own), frauds)
    return held


def online(stream: list[Payment]) -> Iterator[Floats]:
    """The features of each payment by itself."""
    events = [events_of(payment) for payment in stream]
    held = [held_tiles(entity, [each[entity] for each in events], stream) for entity in range(len(PLAN.windows))]
    for payment, seen in zip(stream, events, strict=True):
        state = [value for me in seen for value in me.windows.state_at(me.values, held[me.entity][me.key])]
        columns = {name: [math.nan if payment[name] is None else payment[name]] for name in CONTRACT.numeric}
        extras = FEATURES.encode(columns | {"channel": [payment["channel"]]}, 1)
        yield FEATURES.compute_one(payment["amount_minor"], payment["time_us"], state, extras)


@given(st.lists(payments, min_size=1, max_size=10))
def test_a_payment_has_the_same_bits_online_as_offline(stream: list[Payment]) -> None:
    for one, row in zip(online(stream), offline(stream), strict=True):
        differ = one[0].view(np.int64) != row.view(np.int64)
        assert not differ.any(), [name for name, differs in zip(FEATURES.names, differ, strict=True) if differs]


@given(st.lists(payments, min_size=1, max_size=6), st.permutations(CONTRACT.categorical["channel"]))
def test_other_columns_do_not_move_when_the_known_values_are_listed_in_another_order(
    stream: list[Payment], values: list[str]
) -> None:
    other = replace(CONTRACT, categorical={"channel": tuple(values)})
    same = [name != "channel" for name in FEATURES.names]
    assert offline(stream)[:, same].tobytes() == offline(stream, other)[:, same].tobytes()
    for one, two in zip(PLAN.windows, StatePlan(other).windows, strict=True):
        assert set(one.tile_columns) == set(two.tile_columns)


def test_a_column_that_a_table_lacks_counts_as_missing() -> None:
    stream = [paid(3 * i, 100 + i, channel=None, lat=None) for i in range(4)]
    rows = table_of(stream).drop_columns(["channel", "lat"])
    assert compute_rows(FEATURES, rows, window_states(FEATURES, rows)).tobytes() == offline(stream).tobytes()


def paid(minutes: float, amount: int, terminal: str = "x", **more: Any) -> Payment:
    base = {"customer": "a", "lat": 0.0, "lon": 0.0, "channel": "chip", "is_fraud": 0}
    return base | {"time_us": START + int(minutes * MINUTE_US), "amount_minor": amount, "terminal": terminal} | more


def named(stream: list[Payment]) -> list[dict[str, float]]:
    return [dict(zip(FEATURES.names, row, strict=True)) for row in offline(stream).tolist()]


def test_values_match_their_names() -> None:
    first, second, third, fourth = named(
        [
            paid(0, 500),
            paid(3, 200, "y", channel="on 'line'", lat=1.0),
            paid(63, 1000, "y", lat=2.0),
            paid(24.5 * 60, 50, channel=None),
        ]
    )
    for name in ("amount_max_30d", "hours_since_last", "last_lat", "share_channel_10m"):
        assert math.isnan(first[f"customer_{name}"])
    assert first["customer_distinct_terminal_id_30d"] == 0.0
    assert (second["customer_count_10m"], third["customer_count_10m"], third["customer_count_6h"]) == (2.0, 1.0, 3.0)
    assert (second["customer_hours_since_last"], third["customer_hours_since_last"]) == (3 / 60, 1.0)
    assert third["customer_hours_since_first_30d"] == 63 / 60
    assert (third["customer_amount_min_6h"], third["customer_amount_max_6h"]) == (2.0, 5.0)
    assert (second["customer_share_channel_10m"], third["customer_share_channel_6h"]) == (0.0, 0.5)
    assert (third["customer_distinct_terminal_id_6h"], third["customer_last_lat"]) == (2.0, 1.0)
    assert (fourth["customer_share_channel_30d"], fourth["customer_count_1d"]) == (0.0, 2.0)
    assert (third["visitor_count_30d"], third["visitor_last_lat"]) == (2.0, 1.0)


def test_expressions_read_every_aggregate_by_its_dotted_name() -> None:
    first, second = named([paid(0, 500), paid(6, 200, lat=1.0)])
    assert all(math.isnan(first[name]) for name in EXPRESSIONS)  # nothing came before
    assert (second["to_largest"], second["tested"], second["unusual"], second["novel"]) == (0.4, 2.0, 0.0, 5.0)
    assert second["speed"] == pytest.approx(math.pi / 180 * 6371.0088 / 0.1)


@pytest.mark.parametrize(("apart", "seen"), [(0, 0.0), (SECOND_US - 1, 0.0), (SECOND_US, 1.0)])
def test_payments_of_the_same_second_do_not_see_each_other(apart: int, seen: float) -> None:
    stream = [paid(0, 100), {**paid(0, 100), "time_us": START + apart}]
    assert offline(stream)[1, FEATURES.names.index("customer_count_30d")] == 1.0 + seen


@pytest.mark.parametrize(("apart", "seen"), [(SECOND_US, 0.0), (MINUTE_US - 1, 0.0), (MINUTE_US, 1.0)])
def test_payments_of_the_same_minute_at_a_busy_entity_do_not_see_each_other(apart: int, seen: float) -> None:
    stream = [paid(0, 100), {**paid(0, 100), "time_us": START + apart}]
    assert offline(stream)[1, FEATURES.names.index("terminal_count_7d")] == 1.0 + seen


def test_more_different_values_than_a_tile_keeps_count_as_one_more() -> None:
    stream = [paid(2 * i, 100, f"t{i}") for i in range(40)]
    counts = offline(stream)[:, FEATURES.names.index("customer_distinct_terminal_id_30d")]
    assert counts.tolist() == [float(min(i, 33)) for i in range(40)]
    assert np.vstack([*online(stream)]).tobytes() == offline(stream).tobytes()
