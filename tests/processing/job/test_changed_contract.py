"""A home with data gets another contract: old and new rows have its features, and what was there is kept."""

import json
import tempfile
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from processing.contract import Contract
from processing.contracts.home_contract import adopt, contract_for, pending, propose
from processing.contracts.reader import load, of_home, parse
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
from processing.features.table_features import compute_rows, window_states
from processing.job.earlier_features import folder_of
from processing.job.job import run_job
from processing.job.spark import start_spark
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.store.decisions import Decision, Event
from processing.store.open import open_store
from processing.synthetic.synthesize import synthesize, write
from processing.tables.tables import open_tables

pytestmark = pytest.mark.spark

BEFORE = parse(
    load("transactions")
    .text.replace("[1, 7, 30]", "[1, 3]")
    .replace("delay_days = 7", "delay_days = 2")
    .replace("train_days = 60", "train_days = 5")
    .replace("test_days = 7", "test_days = 3")
)
AFTER = parse(
    BEFORE.text.replace("windows_days = [1, 3]     #", "windows_days = [1, 2, 9]  #")
    .replace("numeric = []", 'numeric = ["age"]')
    .replace("categorical = { channel", "# { channel")
    + """
[[entity]]
name = "visitor"
columns = ["customer_id", "terminal_id"]
windows = ["10m", "2d"]
aggregates = ["count", "recency", "last:age"]
"""
)
VERSION = "20261122T100000Z-baf3f"


@pytest.fixture(scope="module", autouse=True)
def spark(tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    session = start_spark(tmp_path_factory.mktemp("spark"), cores="2")
    session.conf.set("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than running here
    session.conf.set("spark.sql.shuffle.partitions", "2")
    return session


def run(home: LocalHome, name: str, contract: Contract, *, replace: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as held:
        return run_job(home, contract, name, Path(scratch), held, replace_contract=replace)


def drop(home: LocalHome, rows: pa.Table, name: str) -> None:
    path = home.path(f"incoming/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(rows, path)


def decided(event: Event) -> Decision:
    return Decision(event, "legit", 0.1, 0.5, VERSION, b"", datetime.now(UTC))


def stored(home: LocalHome, contract: Contract) -> pa.Table:
    """The transactions with all the columns that the contract has, by id."""
    tables = open_tables(home, contract)
    rows = tables.read("transactions")
    return rows.sort_by([("transaction_id", "ascending")]).combine_chunks()


def expected(rows: pa.Table, contract: Contract) -> np.ndarray[Any, Any]:
    features = FeatureSet(contract)
    return compute_rows(features, rows, window_states(features, rows))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalHome, Event, dict[str, Any]]:
    """A home after a run under one contract, a decision, and a run with new rows under another."""
    home = open_home(tmp_path_factory.mktemp("home"))
    assert isinstance(home, LocalHome)
    season = synthesize(date(2026, 3, 1), 16, customers=50, terminals=30)
    cut = len(season) * 3 // 4
    drop(home, season.slice(0, cut), "first.parquet")
    run(home, "run1", BEFORE)
    home.write(f"models/{VERSION}/manifest.json", json.dumps({"contract": {"text": BEFORE.text}}).encode())
    home.write("models/latest.json", json.dumps({"version": VERSION, "previous": []}).encode())
    last = stored(home, BEFORE).sort_by("event_time").slice(cut - 1).to_pylist()[0]
    when = int(last["event_time"].timestamp() * 1e6) + 60_000_000
    event = Event("decided", when, 1_234, (last["customer"], last["terminal"]))
    store = open_store(home, BEFORE)
    store.record(decided(event))
    store.report("decided", True)
    store.close()
    propose(home, AFTER)
    ages = np.arange(len(season) - cut, dtype=np.float64)
    later = season.slice(cut).append_column("age", pa.array(ages)).drop_columns(["channel"])
    drop(home, pa.concat_tables([later, later.slice(0, 1)]), "later.parquet")
    contract = contract_for(home)
    assert contract == AFTER
    return home, event, run(home, "run2", contract, replace=True)


def test_the_run_puts_the_pending_contract_in_force(changed: tuple[LocalHome, Event, dict[str, Any]]) -> None:
    home, _, record = changed
    assert of_home(home) == AFTER
    assert pending(home) is None
    assert record["features"] == list(FeatureSet(AFTER).names)


def test_old_and_new_rows_have_the_features_of_the_new_contract(
    changed: tuple[LocalHome, Event, dict[str, Any]],
) -> None:
    home, _, _ = changed
    rows = stored(home, AFTER)
    ages = rows["age"].to_pylist()
    assert {None, 0.0, 1.0} < set(ages)
    computed = open_tables(home, AFTER).read("features").sort_by([("transaction_id", "ascending")])
    assert computed["transaction_id"] == rows["transaction_id"]
    values = np.column_stack([computed[name].to_numpy() for name in FeatureSet(AFTER).names])
    assert np.array_equal(values, expected(rows, AFTER), equal_nan=True)


def test_a_removed_column_stays_readable(changed: tuple[LocalHome, Event, dict[str, Any]]) -> None:
    home, _, _ = changed
    rows = stored(home, BEFORE)
    with_age = stored(home, AFTER)["age"].is_valid().to_pylist()
    assert {channel is None for channel in rows["channel"].to_pylist()} == {True, False}
    assert [channel is None for channel in rows["channel"].to_pylist()] == with_age


def test_the_champion_is_compared_on_the_same_rows_under_its_own_contract(
    changed: tuple[LocalHome, Event, dict[str, Any]],
) -> None:
    home, _, _ = changed
    test = pq.read_table(home.path("runs/run2/test"))
    theirs = pq.read_table(home.path(folder_of("run2", BEFORE))).sort_by("transaction_id")
    assert theirs["transaction_id"] == test.sort_by("transaction_id")["transaction_id"]
    rows = stored(home, BEFORE)
    by_id = dict(zip(rows["transaction_id"].to_pylist(), expected(rows, BEFORE), strict=True))
    values = np.column_stack([theirs[name].to_numpy() for name in FeatureSet(BEFORE).names])
    wanted = np.array([by_id[key] for key in theirs["transaction_id"].to_pylist()])
    assert np.array_equal(values, wanted, equal_nan=True)


def test_the_store_has_what_the_models_of_both_contracts_need(changed: tuple[LocalHome, Event, dict[str, Any]]) -> None:
    """What the API computes for a transaction after the run is what the job computes for it later."""
    home, event, _ = changed
    rows = stored(home, AFTER).select(
        ["transaction_id", "event_time", "amount_minor", "is_fraud", "customer", "terminal", "age"]
    )
    moments = rows["event_time"].cast(pa.int64()).to_pylist()
    probe = Event("probe", max(*moments, event.time_us) + 5_000_000, 77, event.keys)
    extra = [
        {
            "transaction_id": one.transaction_id,
            "event_time": datetime.fromtimestamp(one.time_us / 1e6, UTC),
            "amount_minor": one.amount,
            "is_fraud": fraud,
            "customer": one.keys[0],
            "terminal": one.keys[1],
        }
        for one, fraud in ((event, 1), (probe, None))
    ]
    everything = pa.concat_tables([rows, pa.Table.from_pylist(extra, rows.schema)]).combine_chunks()
    store = open_store(home, AFTER)
    for contract in (BEFORE, AFTER):
        features = FeatureSet(contract)
        state = store.recall(probe, StatePlan(contract))[1]
        assert state == window_states(features, everything)[-1].tolist()
    store.close()


def test_decisions_labels_and_earlier_contracts_are_kept(changed: tuple[LocalHome, Event, dict[str, Any]]) -> None:
    home, event, _ = changed
    store = open_store(home, AFTER)
    (decision,) = store.decisions(10)
    assert (decision.event, decision.is_fraud) == (event, True)
    assert store.reports().labels == {"decided": True}
    store.close()
    kept = [home.read(entry.key).decode() for entry in home.entries("contracts/")]
    assert kept == [BEFORE.text]


def test_a_run_that_fails_leaves_the_contract_and_its_features(
    changed: tuple[LocalHome, Event, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, _ = changed
    wider = parse(AFTER.text.replace("[1, 2, 9]", "[1, 2, 4]"))
    before = open_tables(home, AFTER)

    def fail(*arguments: Any, **options: Any) -> bool:
        raise BadInput("the disk is full")

    monkeypatch.setattr("processing.job.table_update.commit", fail)
    with pytest.raises(BadInput, match="disk"):
        run(home, "run3", wider, replace=True)
    assert of_home(home) == AFTER
    after = open_tables(home, AFTER)
    assert after.features_are_current
    assert after.features.metadata_location == before.features.metadata_location


def test_the_next_run_goes_on_after_a_kill_between_the_contract_and_the_rows(
    changed: tuple[LocalHome, Event, dict[str, Any]],
) -> None:
    home, event, _ = changed
    wider = parse(AFTER.text.replace("[1, 2, 9]", "[1, 2, 4]").replace("delay_days = 2", "delay_days = 1"))
    propose(home, wider)
    adopt(home, wider)  # and no more
    run(home, "run4", contract_for(home), replace=True)
    assert (of_home(home), pending(home)) == (wider, None)
    computed = open_tables(home, wider).read("features").sort_by([("transaction_id", "ascending")])
    values = np.column_stack([computed[name].to_numpy() for name in FeatureSet(wider).names])
    assert np.array_equal(values, expected(stored(home, wider), wider), equal_nan=True)
    store = open_store(home, wider)
    assert [decision.event for decision in store.decisions(10)] == [event]
    store.close()
