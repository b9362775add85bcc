"""Synthetic transactions: they fit the `transactions` contract, and depend on seed and day alone."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest

from processing.contracts.reader import load
from processing.errors import BadInput
from processing.synthetic.synthesize import PATTERNS, synthesize, write

START = date(2026, 3, 1)


def small_table(start: date = START, days: int = 3, seed: int = 7) -> pa.Table:
    return synthesize(start, days, customers=300, terminals=80, seed=seed)


@pytest.fixture(scope="module")
def season() -> pa.Table:
    return synthesize(START, 120)


@pytest.mark.slow
def test_columns_and_values_are_those_of_the_contract(season: pa.Table) -> None:
    contract = load("transactions")
    assert set(season.column_names) == set(contract.columns)
    assert season.schema.types == [
        pa.string(),
        pa.timestamp("us", "UTC"),
        pa.float64(),
        pa.string(),
        pa.string(),
        pa.string(),
        pa.int8(),
    ]
    assert set(season["channel"].unique().to_pylist()) == set(contract.categorical["channel"])
    assert set(season["is_fraud"].unique().to_pylist()) == {0, 1}
    assert sum(column.null_count for column in season.columns) == 0


def test_defaults_give_a_season_worth_learning_from(season: pa.Table) -> None:
    assert season.num_rows >= 330_000
    assert 0.005 <= pc.mean(season["is_fraud"]).as_py() <= 0.014
    assert pc.count_distinct(season["customer_id"]).as_py() > 4_900
    assert pc.count_distinct(season["terminal_id"]).as_py() > 1_500


def test_no_single_column_reveals_fraud(season: pa.Table) -> None:
    frauds = season.filter(pc.equal(season["is_fraud"], 1))
    legitimate = season.filter(pc.equal(season["is_fraud"], 0))
    assert set(frauds["channel"].unique().to_pylist()) == set(legitimate["channel"].unique().to_pylist())
    low, high = np.quantile(frauds["amount"].to_numpy(), (0.05, 0.95))
    assert np.mean((legitimate["amount"].to_numpy() >= low) & (legitimate["amount"].to_numpy() <= high)) > 0.5


def test_ids_are_unique(season: pa.Table) -> None:
    assert pc.count_distinct(season["transaction_id"]).as_py() == season.num_rows


def test_amounts_are_positive_with_two_decimals(season: pa.Table) -> None:
    amounts = season["amount"].to_numpy()
    assert amounts.min() > 0
    assert amounts.max() < load("transactions").amount_maximum
    assert np.array_equal(amounts, np.round(amounts, 2))


def test_times_are_in_order_and_within_the_requested_days(season: pa.Table) -> None:
    times = season["event_time"].to_numpy()
    assert np.all(times[1:] >= times[:-1])
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    assert begin <= season["event_time"][0].as_py() < begin + timedelta(hours=1)
    assert timedelta(days=119, hours=23) < season["event_time"][-1].as_py() - begin < timedelta(days=120)


def test_rows_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    assert small_table().equals(small_table())
    assert not small_table()["amount"].equals(small_table(seed=8)["amount"])
    assert not set(small_table()["transaction_id"].to_pylist()) & set(small_table(seed=8)["transaction_id"].to_pylist())


def test_rows_are_the_same_as_in_earlier_versions(tmp_path: Path) -> None:
    """A seed stands for the same data in every version; published figures depend on it."""
    write(synthesize(START, 20, customers=500, terminals=100), tmp_path / "data.csv")
    digest = hashlib.sha256((tmp_path / "data.csv").read_bytes()).hexdigest()
    assert digest == "11ffdb9849d0e3aa03611aab5ced65b31c4b8690e06e54b9652232ea1372b8db"


def test_naming_the_patterns_changes_nothing_else() -> None:
    named = synthesize(START, 3, customers=300, terminals=80, patterns=True)
    assert named.column_names == [*small_table().column_names, "pattern"]
    assert named.drop(["pattern"]).equals(small_table())


def test_each_fraud_has_a_pattern_and_behaves_accordingly() -> None:
    """Terminals leak many cards; tests are online and minutes apart; account thieves order online at night."""
    table = synthesize(START, 60, customers=2000, terminals=200, patterns=True)
    assert table["pattern"].is_valid().equals(pc.equal(table["is_fraud"], 1))
    of = {name: table.filter(pc.equal(table["pattern"], name)) for name in PATTERNS}
    assert all(len(rows) for rows in of.values())
    assert len(of["leaked_terminal"]) / pc.count_distinct(of["leaked_terminal"]["terminal_id"]).as_py() > 20
    for name in ("tested_card", "account_takeover"):
        assert of[name]["channel"].unique().to_pylist() == ["online"]
    cards = of["tested_card"].group_by("customer_id").aggregate([("event_time", "min"), ("event_time", "max")])
    spans = pc.subtract(cards["event_time_max"], cards["event_time_min"]).cast(pa.int64()).to_numpy() / 60e6
    assert np.median(spans) < 90
    assert np.median(pc.hour(of["account_takeover"]["event_time"]).to_numpy()) < 7
    assert np.median(pc.hour(of["stolen_card"]["event_time"]).to_numpy()) > 9


@pytest.mark.parametrize(("first", "days"), [(0, 1), (0, 20), (20, 20), (39, 1)])
def test_a_shorter_period_has_the_same_rows_as_within_a_longer_one(first: int, days: int) -> None:
    whole = small_table(days=40)
    begin = pa.scalar(datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=first), whole["event_time"].type)
    end = pa.scalar(datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=first + days), whole["event_time"].type)
    inside = pc.and_(pc.greater_equal(whole["event_time"], begin), pc.less(whole["event_time"], end))
    assert small_table(START + timedelta(days=first), days).equals(whole.filter(inside))


def test_the_next_month_continues_the_default_season(season: pa.Table) -> None:
    month = synthesize(START + timedelta(days=90), 30)
    assert month.equals(season.slice(season.num_rows - month.num_rows))


@pytest.mark.parametrize("name", ["new/data.csv", "data.csv.gz", "data.parquet"])
def test_written_files_read_back_equal_and_leave_nothing_else(name: str, tmp_path: Path) -> None:
    table, path = small_table(), tmp_path / name
    write(table, path)
    if name.endswith(".parquet"):
        again = pyarrow.parquet.read_table(path)
    else:
        types = pyarrow.csv.ConvertOptions(column_types=table.schema)
        again = pyarrow.csv.read_csv(path, convert_options=types)
    assert again.equals(table)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_csv_is_plain_text_with_iso_times(tmp_path: Path) -> None:
    write(small_table(), tmp_path / "data.csv")
    header, first = (tmp_path / "data.csv").read_text().splitlines()[:2]
    assert header.replace('"', "").split(",") == small_table().column_names
    assert '"' not in first
    assert datetime.fromisoformat(first.split(",")[1]) == small_table()["event_time"][0].as_py()


@pytest.mark.parametrize("name", ["data.json", "data", "csv", "data.gz"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.csv, \.csv\.gz or \.parquet"):
        write(small_table(days=1), tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": 0}, "days is 0"),
        ({"customers": 0}, "customers is 0"),
        ({"terminals": 1}, "terminals is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"start": date(1969, 12, 31)}, "1970"),
        ({"start": date(2199, 12, 31), "days": 2}, "2199"),
    ],
)
def test_invalid_arguments_are_refused_with_the_reason(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        synthesize(**{"start": START, "days": 1, **arguments})  # type: ignore[arg-type]


def test_the_smallest_population_works() -> None:
    assert synthesize(START, 5, customers=1, terminals=10).num_rows < 50
