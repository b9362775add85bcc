"""Recorded decisions compared with the features table: every different bit is found, and nothing else."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.parity import compare
from processing.contracts.reader import load
from processing.durations import DAY_US
from processing.features.feature_set import FeatureSet
from processing.store.decisions import Decision, Event
from processing.tables.schemas import features_schema

CONTRACT = load("transactions")
NAMES = FeatureSet(CONTRACT).names
values = st.sampled_from([0.0, -0.0, 1.0, 0.1, 0.1 + 2**-55, float("nan")])


def decision_of(event: Event, features: list[float]) -> Decision:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    return Decision(event, "legit", 0.1, 0.5, "v1", np.array(features, "<f8").tobytes(), now)


def event_of(number: int, day: int) -> Event:
    return Event(f"t{number}", day * DAY_US + number, 100 + number, (f"C{number % 3}", f"T{number % 2}"))


def table_of(rows: list[tuple[Event, list[float]]]) -> pa.Table:
    schema = features_schema(CONTRACT)
    columns = [
        [event.transaction_id for event, _ in rows],
        [event.time_us for event, _ in rows],
        [event.amount for event, _ in rows],
        [0 for _ in rows],
        *([event.keys[index] for event, _ in rows] for index in range(2)),
        *([features[index] for _, features in rows] for index in range(len(NAMES))),
    ]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


@given(
    st.lists(st.tuples(st.integers(0, 2), values, values, st.sampled_from(["same", "absent", "other"])), max_size=12),
    st.integers(0, len(NAMES) - 1),
)
def test_a_decision_differs_exactly_if_a_bit_of_a_feature_does(
    cases: list[tuple[int, float, float, str]], index: int
) -> None:
    decisions, tables = list[Decision](), dict[int, list[tuple[Event, list[float]]]]()
    expected = {"compared": 0, "different": 0, "not_in_tables": 0, "displaced": 0}
    for number, (day, seen, computed, kind) in enumerate(cases):
        event, features = event_of(number, 20_000 + day), [float(number)] * len(NAMES)
        decisions.append(decision_of(event, [*features[:index], seen, *features[index + 1 :]]))
        in_table = Event(event.transaction_id, event.time_us, event.amount + (kind == "other"), event.keys)
        if kind != "absent":
            row = (in_table, [*features[:index], computed, *features[index + 1 :]])
            tables.setdefault(20_000 + day, []).append(row)
        expected["not_in_tables"] += kind == "absent"
        expected["displaced"] += kind == "other"
        if kind == "same":
            both_missing = np.isnan(seen) and np.isnan(computed)
            same = both_missing or np.float64(seen).tobytes() == np.float64(computed).tobytes()
            expected["compared"] += 1
            expected["different"] += not same
    comparison = compare(decisions, lambda day: table_of(tables.get(day, [])), CONTRACT)
    different = expected["different"]
    assert comparison == expected | {"features": {NAMES[index]: different} if different else {}}


def test_a_transaction_that_the_tables_have_on_another_day_is_not_in_them_that_day() -> None:
    decided, other = event_of(1, 20_000), event_of(1, 20_001)
    rows = table_of([(other, [0.0] * len(NAMES))])
    comparison = compare([decision_of(decided, [0.0] * len(NAMES))], lambda day: rows.slice(0, day == 20_001), CONTRACT)
    assert comparison["not_in_tables"] == 1
