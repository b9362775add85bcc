"""A request means what the same values mean in a file: amounts to the minor unit, times to the microsecond."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from processing.contract import LARGEST_MINOR, Contract
from processing.contracts.example import example_transaction
from processing.contracts.reader import load
from processing.features.feature_set import FeatureSet
from processing.intake.files import read_file
from serving.api.transaction import to_event, transaction_model
from serving.api.validation import validate_json
from serving.batch.arrow import read_stream
from serving.batch.format import BatchLimits

SHOP = load("transactions")
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
LIMITS = BatchLimits(rows=1000, row_bytes=10_000, fields=100, work=10**7)
Outcome = tuple[int, int] | str  # time and amount, or why the row is refused


def read_as(contract: Contract, name: str, values: pa.Array) -> Iterator[list[Outcome]]:
    """What the values of a column become in a Parquet file, and in an Arrow request."""
    plain = {key: pa.array([value] * len(values)) for key, value in example_transaction(contract).items()}
    table = pa.table(plain | {name: values})
    with TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / "rows.parquet")
        yield in_file(Path(folder) / "rows.parquet", contract)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    yield in_requests(contract, [json.dumps(row) for row in read_stream(sink.getvalue(), LIMITS)])


def read_text(contract: Contract, name: str, texts: Sequence[str]) -> list[Outcome]:
    """What texts become in a CSV file."""
    row = example_transaction(contract)
    lines = [row, *((row | {name: text}).values() for text in texts)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_text("".join(",".join(map(str, values)) + "\n" for values in lines))
        return in_file(path, contract)


def read_numbers(contract: Contract, name: str, texts: Sequence[str]) -> list[Outcome]:
    """What numbers become in JSON requests."""
    row = json.dumps(example_transaction(contract) | {name: "PLACE"})
    return in_requests(contract, [row.replace('"PLACE"', text) for text in texts])


def in_file(path: Path, contract: Contract) -> list[Outcome]:
    rows = pa.Table.from_batches(read_file(path, contract, path.name, datetime.now(UTC), labelled=False)).to_pylist()
    return [row["reason"] or ((row["event_time"] - EPOCH) // MICROSECOND, row["amount_minor"]) for row in rows]


def in_requests(contract: Contract, requests: Sequence[str]) -> list[Outcome]:
    model, features, outcomes = transaction_model(contract), FeatureSet(contract), list[Outcome]()
    for text in requests:
        try:
            event, _ = to_event(validate_json(model, text.encode()), contract, features)
            outcomes.append((event.time_us, event.amount))
        except ValidationError as error:
            outcomes.append(str(error.errors()[0]["msg"]))
    return outcomes


def amounts(outcomes: Sequence[Outcome]) -> list[Any]:
    return [outcome if isinstance(outcome, str) else outcome[1] for outcome in outcomes]


def currency(decimals: int, *, refunds: bool = True) -> Contract:
    most = LARGEST_MINOR / 10**decimals
    return replace(SHOP, amount_decimals=decimals, amount_maximum=most, refunds=refunds)


minor = st.integers(-LARGEST_MINOR, LARGEST_MINOR) | st.integers(LARGEST_MINOR - 10**6, LARGEST_MINOR)


@settings(max_examples=20)
@given(st.lists(minor, min_size=1, max_size=100), st.integers(0, 4))
@example([LARGEST_MINOR, -LARGEST_MINOR, LARGEST_MINOR - 1, 1, 0], 2)
def test_amounts_of_whole_minor_units_are_exact_in_every_file_and_request(units: list[int], decimals: int) -> None:
    contract, values = currency(decimals), [Decimal(each).scaleb(-decimals) for each in units]
    texts = [f"{value:f}" for value in values]
    for form in (pa.array(map(float, texts)), pa.array(values, pa.decimal128(20, decimals))):
        assert [amounts(outcomes) for outcomes in read_as(contract, "amount", form)] == [units, units]
    assert amounts(read_text(contract, "amount", texts)) == units
    assert amounts(read_numbers(contract, "amount", texts)) == units


@settings(max_examples=20)
@given(st.lists(st.floats(-LARGEST_MINOR, LARGEST_MINOR), min_size=1, max_size=100), st.integers(0, 4))
@example([0.5, 1.5, 100.5, -2.5, 0.49999999999999994], 2)
def test_any_amounts_become_the_same_nearest_minor_units_in_every_file_and_request(
    scaled: list[float], decimals: int
) -> None:
    contract, values = currency(decimals), [value / 10**decimals for value in scaled]
    texts = [repr(value) for value in values]
    units, *others = (
        amounts(outcomes)
        for outcomes in (
            *read_as(contract, "amount", pa.array(values)),
            read_text(contract, "amount", texts),
            read_numbers(contract, "amount", texts),
        )
    )
    assert others == [units] * 3
    for value, unit in zip(values, units, strict=True):
        assert abs(unit - Fraction(value) * 10**decimals) <= Fraction(1, 2) + Fraction(1, 10**4)


@pytest.mark.parametrize("refunds", [False, True])
def test_files_and_requests_accept_the_same_amounts(refunds: bool) -> None:
    values = [-1e10 - 0.01, -1e10, -59.9, -0.01, -0.0, 0.0, 0.01, 1e10, 1e10 + 0.01]
    contract, texts = currency(2, refunds=refunds), [repr(value) for value in values]
    accepted = [abs(value) <= 1e10 and (value >= 0 or refunds) for value in values]
    for outcomes in (
        *read_as(contract, "amount", pa.array(values)),
        read_text(contract, "amount", texts),
        read_numbers(contract, "amount", texts),
    ):
        assert [not isinstance(outcome, str) for outcome in outcomes] == accepted


def times(outcomes: Sequence[Outcome]) -> list[Any]:
    """The times, and what is said about clocks that skip one."""
    return [f"clocks{each.partition('clocks')[2]}" if isinstance(each, str) else each[0] for each in outcomes]


spring, autumn, lord_howe = (datetime(2025, 3, 30, 2), datetime(2025, 10, 26, 2), datetime(2025, 10, 5, 2))
near_changes = st.builds(
    lambda moment, minutes: moment + timedelta(minutes=minutes),
    st.sampled_from([spring, autumn, lord_howe]),
    st.integers(-60, 90),
)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
@settings(max_examples=10)
@given(local=st.lists(st.datetimes(datetime(2000, 1, 2), datetime(2026, 1, 1)) | near_changes, min_size=1, max_size=50))
@example(local=[spring + timedelta(minutes=30), autumn, lord_howe + timedelta(minutes=15), spring])
def test_times_without_an_offset_are_the_same_moments_in_every_file_and_request(
    zone: str | None, local: list[datetime]
) -> None:
    contract, texts = replace(SHOP, time_zone=zone), [moment.isoformat() for moment in local]
    first, *others = (
        times(outcomes)
        for outcomes in (
            *read_as(contract, "event_time", pa.array(local, pa.timestamp("us"))),
            *read_as(contract, "event_time", pa.array(texts)),
            read_text(contract, "event_time", texts),
        )
    )
    assert others == [first] * 4
    if zone is None:
        assert first == [(moment.replace(tzinfo=UTC) - EPOCH) // MICROSECOND for moment in local]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/New_York"])
def test_times_with_an_offset_are_those_moments_whatever_the_zone(zone: str | None) -> None:
    contract = replace(SHOP, time_zone=zone)
    texts = ["2025-03-30T02:30:00+01:00", "2025-03-30T01:30:00Z", "2025-03-30T01:30Z", "2025-03-29 21:30:00-0400"]
    for outcomes in (
        *read_as(contract, "event_time", pa.array(texts)),
        *read_as(contract, "event_time", pa.array([datetime(2025, 3, 30, 1, 30)] * 4, pa.timestamp("us", "UTC"))),
        read_text(contract, "event_time", texts),
    ):
        assert times(outcomes) == [1_743_298_200_000_000] * 4


def test_a_local_time_that_the_clock_skips_is_refused_in_words_that_say_why() -> None:
    contract, skipped = replace(SHOP, time_zone="Europe/Berlin"), spring + timedelta(minutes=30)
    for (outcome,) in (
        *read_as(contract, "event_time", pa.array([skipped])),
        *read_as(contract, "event_time", pa.array([skipped.isoformat()])),
        read_text(contract, "event_time", [f"{skipped:%Y-%m-%d %H:%M}"]),
    ):
        assert isinstance(outcome, str)
        assert "clocks in Europe/Berlin skip this time; expected one that they show, or one with an offset" in outcome


def test_one_column_may_mix_local_times_and_times_with_an_offset() -> None:
    contract = replace(SHOP, time_zone="Europe/Berlin")
    texts = ["2025-07-01", "2025-07-01T00:00:00.5", "2025-06-30T22:00:00Z", "2025-07-01T00:00+02:00", "20250701T000000"]
    midnight = 1_751_320_800_000_000
    expected = [midnight, midnight + 500_000, midnight, midnight, midnight]
    for outcomes in (*read_as(contract, "event_time", pa.array(texts)), read_text(contract, "event_time", texts)):
        assert times(outcomes) == expected
