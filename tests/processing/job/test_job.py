"""The feature job, with real Spark and real tables: it commits or leaves no trace, however the data is split up."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from processing.contract import Contract
from processing.contracts.reader import load, parse
from processing.errors import BadInput, Damaged
from processing.features.feature_set import FeatureSet
from processing.intake.merge import rewritten_days
from processing.job.earlier_features import folder_of
from processing.job.job import run_job
from processing.job.spark import start_spark, tasks_for
from processing.job.table_check import damaged_tables
from processing.split import split_days
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.spark_files import read_parquet
from processing.store.decisions import Decision, Event
from processing.store.interface import OnlineStore
from processing.store.open import open_store
from processing.synthetic.synthesize import synthesize, write
from processing.tables import tables
from processing.tables.leftovers import referenced
from processing.tables.parquet import check_footer
from processing.tables.schemas import features_schema
from processing.tables.snapshots import row_counts, snapshot_id

pytestmark = pytest.mark.spark

START = date(2026, 3, 1)
CONTRACT = parse(
    load("transactions")
    .text.replace("[1, 7, 30]", "[1, 3]")
    .replace("delay_days = 7", "delay_days = 2")
    .replace("train_days = 60", "train_days = 8")
    .replace("test_days = 7", "test_days = 3")
)
EPOCH = date(1970, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def spark(tmp_path_factory: pytest.TempPathFactory, partitions: int) -> Iterator[SparkSession]:
    session = start_spark(tmp_path_factory.mktemp("spark"), cores="2")
    session.conf.set("spark.sql.codegen.wholeStage", "false")  # compiling takes longer than running here
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))
    session.conf.set("spark.sql.adaptive.coalescePartitions.enabled", str(partitions > 4).lower())  # as under Glue
    with pytest.MonkeyPatch.context() as patched:  # use all these tasks, as with many rows
        patched.setattr("processing.job.spark.ROWS_WORTH_A_TASK", 1)
        yield session  # other modules go on using it; it ends with the process


@dataclass
class Installation:
    """A home, and what users do with it."""

    folder: Path
    contract: Contract = CONTRACT
    runs: int = 0

    @property
    def home(self) -> LocalHome:
        home = open_home(self.folder)
        assert isinstance(home, LocalHome)
        return home

    def drop(self, rows: pa.Table | str, name: str, *, later: float = 0) -> Path:
        """Put an old file into incoming/. later: by how many seconds it is newer than the others."""
        path = self.folder / "incoming" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, str):
            path.write_text(rows, encoding="utf-8")
        else:
            write(rows, path)
        os.utime(path, (1.7e9 + later, 1.7e9 + later))
        return path

    def run(self) -> dict[str, Any]:
        self.runs += 1
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            return run_job(self.home, self.contract, f"run{self.runs}", Path(scratch), stack)

    def table(self, name: str) -> pa.Table:
        """A table's rows, ordered by id or, in quarantine, by file and line."""
        rows = getattr(tables.open_tables(self.home, self.contract), name).scan().to_arrow()
        order = ["file", "line"] if name == "quarantine" else ["transaction_id"]
        return rows.sort_by([(column, "ascending") for column in order]).combine_chunks()

    def snapshots(self) -> tuple[int | None, int | None]:
        opened = tables.open_tables(self.home, self.contract)
        return snapshot_id(opened.transactions), snapshot_id(opened.features)

    def files(self) -> set[str]:
        """All files but the catalog's own and the logs of the store."""
        inside = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(path) for path in inside if path.parts[0] != "online" and path.suffix != ".db"}


@pytest.fixture(scope="module")
def season() -> pa.Table:
    """Sixteen days, about 640 rows."""
    return synthesize(START, 16, customers=60, terminals=40)


def days(rows: pa.Table, first: int, end: int) -> pa.Table:
    day = pc.days_between(pa.scalar(START), rows["event_time"].cast(pa.date32()))
    return rows.filter(pc.and_(pc.greater_equal(day, first), pc.less(day, end)))


def with_labels(rows: pa.Table, labels: Any) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("is_fraud"), "is_fraud", pa.array(labels, pa.int8()))


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, season: pa.Table) -> tuple[Installation, dict[str, Any]]:
    """An installation after its first run. Tests share it, so each compares with the state it starts from."""
    installation = Installation(tmp_path_factory.mktemp("first_run"))
    installation.drop(days(season, 0, 9), "first.csv")
    bad = "transaction_id,event_time,amount,customer_id,terminal_id,channel,is_fraud\nbad,when?,1,C1,T1,chip,0\n"
    installation.drop(days(season, 9, 16), "more/second.parquet")
    installation.drop(bad, "bad.csv")
    return installation, installation.run()


@pytest.fixture
def installation(first_run: tuple[Installation, dict[str, Any]]) -> Installation:
    return first_run[0]


def test_a_first_run_fills_all_tables_and_reports_its_counts(
    first_run: tuple[Installation, dict[str, Any]], season: pa.Table
) -> None:
    installation, done = first_run
    accepted, features = installation.table("transactions"), installation.table("features")
    expected = season.sort_by("transaction_id")
    for table in (accepted, features):
        assert table["transaction_id"].to_pylist() == expected["transaction_id"].to_pylist()
    assert accepted["event_time"].cast(pa.int64()).equals(expected["event_time"].cast(pa.int64()))
    assert accepted["amount_minor"].to_pylist() == np.rint(expected["amount"].to_numpy() * 100).tolist()
    assert accepted["is_fraud"].to_pylist() == features["is_fraud"].to_pylist() == expected["is_fraud"].to_pylist()
    assert [(row["file"], row["line"]) for row in installation.table("quarantine").to_pylist()] == [("bad.csv", 2)]
    assert (done["rows_accepted"], done["rows_new"], done["rows_refused"]) == (len(season), len(season), 1)
    assert {file["name"] for file in done["files"]} == {"first.csv", "more/second.parquet", "bad.csv"}
    assert done["online_profiles"] > 0


def test_originals_are_archived_and_incoming_is_empty(first_run: tuple[Installation, dict[str, Any]]) -> None:
    installation, done = first_run
    archived = {f"archive/run1/{file['name']}" for file in done["files"]}
    assert archived <= installation.files()
    assert not any(name.startswith("incoming/") for name in installation.files())


def test_sets_are_split_by_time_with_the_label_delay_between(first_run: tuple[Installation, dict[str, Any]]) -> None:
    installation, done = first_run
    assert done["days"] == {"train": ["2026-03-04", "2026-03-11"], "test": ["2026-03-14", "2026-03-16"]}
    features = installation.table("features")
    for name, (first, last) in done["days"].items():
        rows = pq.read_table(installation.folder / "runs" / "run1" / name)
        rows = rows.drop_columns(["day"]) if "day" in rows.column_names else rows
        day = features["event_time"].cast(pa.date32())
        inside = pc.and_(pc.greater_equal(day, date.fromisoformat(first)), pc.less_equal(day, date.fromisoformat(last)))
        expected = features.filter(inside)
        assert len(rows) == done["rows"][name] == len(expected)
        assert bits(rows.sort_by("transaction_id")) == bits(expected)


def test_a_run_leaves_intact_tables_and_sets(first_run: tuple[Installation, dict[str, Any]]) -> None:
    installation, _ = first_run
    assert list(damaged_tables(installation.home, CONTRACT)) == []
    for path in (installation.folder / "runs/run1").rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            check_footer(file, features_schema(CONTRACT))


def bits(features: pa.Table) -> dict[str, Any]:
    """A features table column by column, numbers as bytes: -0.0 is not 0.0 here, and NaN is NaN."""
    columns = {name: features[name].combine_chunks() for name in features.column_names}
    return {
        name: column.to_numpy(False).tobytes() if pa.types.is_floating(column.type) else column.to_pylist()
        for name, column in columns.items()
    }


def test_reading_the_same_file_again_changes_nothing(installation: Installation, season: pa.Table) -> None:
    before = installation.snapshots()
    installation.drop(days(season, 0, 9), "again.csv")
    done = installation.run()
    assert (done["rows_new"], done["rows_refused"]) == (0, 0)
    assert installation.snapshots() == before
    assert f"archive/run{installation.runs}/again.csv" in installation.files()


def test_a_fraud_label_lasts_until_a_newer_file_changes_it(
    new: Callable[[str], Installation], season: pa.Table
) -> None:
    """Reading the same export again, or another of its age, does not; of two newer files the last one counts."""
    labels = new("labels")
    march = days(season, 0, 9)
    place = march["is_fraud"].to_pylist().index(0)
    victim = march["transaction_id"][place].as_py()

    def label() -> int | None:
        rows = labels.table("transactions").to_pylist()
        (value,) = [row["is_fraud"] for row in rows if row["transaction_id"] == victim]
        return value  # type: ignore[no-any-return]

    def add_label(value: int, name: str, later: float) -> None:
        labels.drop(with_labels(march.slice(place, 1), [value]), name, later=later)

    labels.drop(march, "march.csv")
    labels.run()
    add_label(1, "chargeback.csv", 100)
    labels.run()
    assert label() == 1
    labels.drop(march, "march.csv", later=200)  # the same bytes
    labels.drop(march.slice(0, place + 5), "export.csv", later=50)
    assert labels.run()["rows_new"] == 0
    assert label() == 1
    add_label(1, "labels-9.csv", 300)
    add_label(0, "labels-10.csv", 300)
    labels.run()
    assert label() == 0


def test_a_different_transaction_with_a_known_id_goes_to_quarantine_once(
    installation: Installation, season: pa.Table
) -> None:
    changed = season.slice(5, 40).set_column(2, "amount", pc.add(season.slice(5, 40)["amount"], [0.0] * 39 + [1.0]))
    identity = changed["transaction_id"][39].as_py()
    before, snapshots = len(installation.table("quarantine")), installation.snapshots()
    for _ in range(2):
        installation.drop(changed, "clash.csv")
        assert installation.run()["rows_refused"] == 1
        quarantine = installation.table("quarantine").to_pylist()
        assert len(quarantine) == before + 1
    (row,) = [row for row in quarantine if row["file"] == "clash.csv"]
    assert (row["line"], row["run"]) == (41, f"run{installation.runs - 1}")
    assert row["reason"] == "the id stands for another transaction already"
    assert identity in row["content"]
    assert str(round(changed["amount"][39].as_py() * 100)) in row["content"]
    assert installation.snapshots() == snapshots


def test_too_many_refused_rows_stop_the_run_without_a_trace(installation: Installation, season: pa.Table) -> None:
    good = synthesize(START + timedelta(days=16), 1, customers=60, terminals=40).slice(0, 9)
    path = installation.drop(good, "mostly.csv")
    installation.drop(path.read_text() + "x,2026-03-01T00:00:00Z,-5,C1,T1,chip,0\n", "mostly.csv")
    before = installation.files(), installation.snapshots()
    with pytest.raises(BadInput, match=r"1 of 10 rows break .*mostly\.csv line 11: amount: an amount is not negative"):
        installation.run()
    assert (installation.files(), installation.snapshots()) == before
    path.unlink()


def during_the_run(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something while the run computes the changes."""

    def act_first(*arguments: Any) -> Any:
        action()
        return rewritten_days(*arguments)

    monkeypatch.setattr("processing.job.table_update.rewritten_days", act_first)


def test_a_file_that_is_still_being_written_stops_the_run_without_a_trace(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = installation.drop(synthesize(START + timedelta(days=16), 1, customers=60, terminals=40), "growing.csv")
    before = installation.files(), installation.snapshots()
    with path.open("a") as file:

        def grow() -> None:
            file.write("x,2026-03-01T00:00:00Z,5,C1,T1,chip,0\n")
            file.flush()

        during_the_run(monkeypatch, grow)
        with pytest.raises(BadInput, match=r"growing\.csv changed while it was read; nothing was committed"):
            installation.run()
    assert (installation.files(), installation.snapshots()) == before
    path.unlink()


def test_the_archive_holds_the_bytes_that_were_read_even_if_the_file_is_replaced_during_the_run(
    new: Callable[[str], Installation], season: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = new("replaced")
    original = installation.drop(days(season, 0, 9), "rows.csv").read_bytes()
    during_the_run(monkeypatch, lambda: installation.drop(days(season, 9, 12), "rows.csv") and None)
    installation.run()
    assert (installation.folder / "archive/run1/rows.csv").read_bytes() == original
    assert len(installation.table("transactions")) == len(days(season, 0, 9))
    monkeypatch.undo()
    installation.run()
    assert installation.table("transactions").num_rows == len(days(season, 0, 12))


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Installation]:
    return lambda name: Installation(tmp_path / name)


@pytest.mark.usefixtures("projections")
def test_incremental_runs_compute_the_same_features_as_one_run_over_all_data(
    new: Callable[[str], Installation], season: pa.Table
) -> None:
    """With new days, late rows in old days, new labels in files and labels reported to the API."""
    random = np.random.default_rng(4)
    rows = with_labels(season, random.random(len(season)) < 0.1)
    late = np.zeros(len(rows), bool)
    late[random.choice(len(days(rows, 0, 8)), 12, replace=False)] = True
    unlabelled = np.where(random.random(len(rows)) < 0.5, None, rows["is_fraud"].to_numpy())
    first = with_labels(rows, unlabelled).filter(pa.array(~late))
    in_steps, at_once = new("steps"), new("once")

    in_steps.drop(days(first, 0, 12), "first.csv")
    in_steps.run()
    before = in_steps.table("features")
    reported = days(with_labels(rows, unlabelled), 10, 11).filter(pc.field("is_fraud").is_null())
    fraud = dict(zip(rows["transaction_id"].to_pylist(), rows["is_fraud"].to_pylist(), strict=True))
    store = open_store(in_steps.home, CONTRACT)
    accepted = {row["transaction_id"]: row for row in in_steps.table("transactions").to_pylist()}
    for key in reported["transaction_id"].to_pylist():
        decide_and_report(store, event_of(accepted[key]), bool(fraud[key]))
    store.close()
    done = in_steps.run()
    assert (done["rows_new"], done["reports_set_aside"]) == (0, 0)
    after = in_steps.table("features")
    # A label changes its own day, and features from the delay on until the windows have passed.
    day = [(moment.date() - START).days for moment in before["event_time"].to_pylist()]
    changed = {
        d for d, old, row in zip(day, before.to_pylist(), after.to_pylist(), strict=True) if repr(old) != repr(row)
    }
    assert 10 in changed
    assert min(changed) == 10

    in_steps.drop(days(first, 12, 16), "next.csv.gz")
    in_steps.run()
    in_steps.drop(rows.filter(pa.array(late)), "late.parquet")
    in_steps.drop(days(rows, 0, 16), "labels.csv")  # all rows again, now labelled
    in_steps.run()

    at_once.drop(rows, "all.parquet")
    at_once.run()
    assert in_steps.table("transactions").equals(at_once.table("transactions"))
    assert bits(in_steps.table("features")) == bits(at_once.table("features"))


def event_of(row: dict[str, Any]) -> Event:
    """An accepted transaction as the API sees it."""
    time_us = int(row["event_time"].timestamp()) * 1_000_000 + row["event_time"].microsecond
    return Event(row["transaction_id"], time_us, row["amount_minor"], (row["customer"], row["terminal"]))


def decide_and_report(store: OnlineStore, event: Event, is_fraud: bool) -> None:
    store.record(Decision(event, "legit", 0.1, 0.5, "v", b"", datetime.now(UTC)))
    store.report(event.transaction_id, is_fraud)


def test_a_report_labels_only_the_transaction_that_was_decided(
    new: Callable[[str], Installation], season: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client cannot change a fraud's label by scoring its id with other content and reporting that as legitimate."""
    installation = new("reported")
    installation.drop(with_labels(season, np.arange(len(season)) % 3 == 0), "first.csv")
    installation.run()
    rows = installation.table("transactions").to_pylist()
    fraud = next(row for row in rows if row["is_fraud"] == 1)
    legitimate, *others = [row for row in rows if row["is_fraud"] == 0][:4]
    before = installation.table("transactions")
    store = open_store(installation.home, CONTRACT)
    changes: list[dict[str, Any]] = [{"amount_minor": 1}, {"customer": "C0"}, {"terminal": "T0"}]
    changes.append({"event_time": others[-1]["event_time"] + timedelta(seconds=1)})
    for row, change in zip([fraud, *others], changes, strict=True):
        decide_and_report(store, event_of(row | change), not row["is_fraud"])
    decide_and_report(store, event_of(legitimate), True)
    decide_and_report(store, replace(event_of(legitimate), transaction_id="in no file yet"), True)
    store.close()
    for _ in range(2):
        assert installation.run()["reports_set_aside"] == 4
        assert "4 report(s) set aside" in capsys.readouterr().out
    labels = ("transaction_id", "is_fraud")
    after = installation.table("transactions").select(labels).to_pylist()
    expected = before.select(labels).to_pylist()
    for row in expected:
        row["is_fraud"] = 1 if row["transaction_id"] == legitimate["transaction_id"] else row["is_fraud"]
    assert after == expected


def test_a_row_in_the_future_and_a_late_source_remove_nothing_from_the_windows(
    new: Callable[[str], Installation],
) -> None:
    home, now = new("ahead"), datetime.now(UTC)
    rows = synthesize(now.date() - timedelta(days=16), 16, customers=40, terminals=30)
    busiest = Counter(rows["customer_id"].to_pylist()[-60:]).most_common(1)[0][0]
    recent = pc.greater(rows["event_time"], pa.scalar(now - timedelta(hours=48)).cast(rows["event_time"].type))
    late = pc.and_(recent, pc.equal(rows["customer_id"], busiest))
    wrong = rows.slice(0, 1).to_pylist()[0] | {"transaction_id": "ahead", "event_time": now + timedelta(hours=20)}
    home.drop(rows.filter(pc.invert(late)), "first.csv")
    home.drop(pa.Table.from_pylist([wrong], rows.schema), "ahead.parquet")
    second = rows.filter(late)
    store = open_store(home.home, CONTRACT)
    for row in second.to_pylist():
        row |= {"amount_minor": round(row["amount"] * 100), "customer": row["customer_id"]}
        decide_and_report(store, event_of(row | {"terminal": row["terminal_id"]}), False)
    home.run()

    def count(name: str, seconds: int) -> int:
        event = Event(name, int(now.timestamp() + seconds) * 1_000_000, 100, (busiest, "T-none"))
        known, state = store.recall(event)
        if known is None:
            store.record(Decision(event, "legit", 0.1, 0.5, "v", b"", now))
        return state[FeatureSet(CONTRACT).state_names.index("customer:n_3d")]

    before = count("p0", 0)
    assert before > len(second)
    assert [count(f"p{i}", i) for i in range(1, 50)] == [before + i for i in range(1, 50)]
    home.drop(second, "second.csv")
    home.run()
    assert count("p50", 50) == before + 50
    store.close()


def test_the_next_run_completes_a_run_that_crashed_between_its_two_commits(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_days = tables.Tables.replace_days

    def crash(opened: tables.Tables, name: str, *arguments: Any, **more: Any) -> None:
        if name == "features":
            raise KeyboardInterrupt
        replace_days(opened, name, *arguments, **more)

    more = synthesize(START + timedelta(days=16), 2, customers=60, terminals=40)
    installation.drop(more, "crash.csv")
    with monkeypatch.context() as patched:
        patched.setattr(tables.Tables, "replace_days", crash)
        with pytest.raises(KeyboardInterrupt):
            installation.run()
    assert len(installation.table("transactions")) > len(installation.table("features"))
    assert "incoming/crash.csv" in installation.files()
    done = installation.run()
    assert done["rows_new"] == 0
    assert tables.open_tables(installation.home, CONTRACT).features_are_current
    features = installation.table("features")
    assert features["transaction_id"].equals(installation.table("transactions")["transaction_id"])
    assert "archive" in {path.split("/")[0] for path in installation.files() if path.endswith("crash.csv")}
    written = {path for path in installation.files() if "/data/" in path and path.endswith(".parquet")}
    assert written == referenced(installation.home)


def test_the_error_without_data_says_where_to_put_files(new: Callable[[str], Installation]) -> None:
    with pytest.raises(BadInput, match=r"put CSV, CSV\.gz or Parquet files into file:.*/incoming"):
        new("empty").run()


def test_too_little_history_is_refused_and_nothing_is_committed(
    new: Callable[[str], Installation], season: pa.Table
) -> None:
    """The files stay in incoming/, and count for the next run, which also has newer ones."""
    home = new("few")
    home.drop(days(season, 0, 4), "few.csv")
    before = home.files()
    with pytest.raises(BadInput, match=r"at least 6 days .*found 2026-03-01 to 2026-03-04.*Nothing was committed; "):
        home.run()
    assert home.files() == before | {"runs/run1/contract.toml"}  # the message tells users to copy it
    home.drop(with_labels(days(season, 4, 16), [None] * len(days(season, 4, 16))), "unlabelled.csv")
    with pytest.raises(BadInput, match=r"found 2026-03-01 to 2026-03-04.*Nothing was committed"):
        home.run()
    home.drop(days(season, 4, 7), "labels.csv")
    done = home.run()
    assert done["rows_new"] == len(season)
    assert done["days"]["test"] == ["2026-03-05", "2026-03-07"]


@pytest.fixture
def projections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check in every run that the counts projected before the commit equal the actual ones after it."""
    arguments: list[tuple[dict[int, int], dict[int, int]]] = []

    def recorder(labelled: Any, rows: Any, contract: Contract) -> Any:
        arguments.append(({day: count for day, count in labelled.items() if count}, dict(rows)))
        return split_days(labelled, rows, contract)

    for module in ("table_update", "train_test_sets"):
        monkeypatch.setattr(f"processing.job.{module}.split_days", recorder)
    yield
    assert len(arguments) >= 2
    for projected, actual in zip(arguments[::2], arguments[1::2], strict=True):
        assert projected == actual


def test_a_dataset_without_entities_and_ids_needs_no_online_store(new: Callable[[str], Installation]) -> None:
    ulb = new("ulb")
    ulb.contract = load("ulb")
    random = np.random.default_rng(1)
    names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    lines = [",".join(names)]
    for i in range(60):
        values = [f"{value:.6f}" for value in random.normal(size=28)]
        lines.append(",".join([str(i * 2800), *values, f"{random.integers(1, 9999) / 100}", f'"{i % 9 == 0:d}"']))
    ulb.drop("\n".join([*lines, lines[7], lines[7]]) + "\n", "creditcard.csv")
    done = ulb.run()
    assert (done["rows_new"], done["online_profiles"]) == (62, None)
    assert not (ulb.folder / "online").exists()
    assert len(set(ulb.table("features")["transaction_id"].to_pylist())) == 62  # equal rows stay separate


@pytest.mark.parametrize("name", ["my home, ü+@", "(#1) a:b=[c]&{d}*"])
def test_special_characters_in_the_names_of_home_file_and_scratch_folder_have_no_meaning(
    tmp_path: Path, season: pa.Table, name: str
) -> None:
    installation = Installation(tmp_path / name)
    installation.drop(days(season, 0, 12), f"{name}/{name}.csv")
    scratch = tmp_path / "temporary [1] files"
    scratch.mkdir()
    with ExitStack() as stack:
        done = run_job(installation.home, CONTRACT, "run 1", scratch, stack)
    assert len(installation.table("transactions")) == len(installation.table("features")) == done["rows_new"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {name, scratch.name}
    assert f"archive/run 1/{name}/{name}.csv" in installation.files()
    assert sum(len(pq.read_table(installation.folder / "runs/run 1" / part)) for part in ("train", "test")) > 0


def test_an_early_report_does_not_move_the_test_days(new: Callable[[str], Installation], season: pa.Table) -> None:
    """A label reported for the newest day is stored, but not used until that day is settled."""
    home = new("early")
    labels = [*days(season, 0, 11)["is_fraud"].to_pylist(), *[None] * len(days(season, 11, 16))]
    home.drop(with_labels(season, labels), "all.parquet")
    first = home.run()
    newest = home.table("transactions").sort_by("event_time").to_pylist()[-1]
    store = open_store(home.home, CONTRACT)
    decide_and_report(store, event_of(newest), True)
    store.close()
    second = home.run()
    assert first["days"] == {"train": ["2026-03-01", "2026-03-06"], "test": ["2026-03-09", "2026-03-11"]}
    assert second["days"] == first["days"] | {"unsettled": ["2026-03-16", "2026-03-16"]}
    assert second["rows"] == first["rows"]
    labelled = row_counts(tables.open_tables(home.home, CONTRACT).features, labelled=True)
    assert labelled[max(labelled)] == 1


def test_a_dataset_with_one_shop_is_accepted(new: Callable[[str], Installation], season: pa.Table) -> None:
    """The work is divided among tasks by shop, so all tasks but one have no rows."""
    shop = new("shop")
    place = season.schema.get_field_index("terminal_id")
    shop.drop(season.set_column(place, "terminal_id", pa.array(["T1"] * len(season))), "all.parquet")
    assert shop.run()["rows_new"] == len(season)
    assert pc.max(shop.table("features")["terminal_count_3d"]).as_py() > 50


WIDER = parse(CONTRACT.text.replace("[1, 3]", "[1, 2, 5]").replace("delay_days = 2", "delay_days = 3"))


def test_the_test_rows_also_get_the_features_of_the_champions_contract(
    new: Callable[[str], Installation], season: pa.Table
) -> None:
    """The same bits as a home of that contract computes for these rows, in the same order."""
    ours, theirs = new("ours"), new("theirs")
    theirs.contract = WIDER
    for installation in (ours, theirs):
        installation.drop(season, "all.parquet")
    theirs.run()
    done = ours.run()
    assert not (ours.folder / "runs/run1/earlier").exists()  # no model serves yet
    version = "20261122T103000Z-baf3f"
    manifest = {"contract": {"text": WIDER.text}}
    ours.home.write(f"models/{version}/manifest.json", json.dumps(manifest).encode())
    ours.home.write("models/latest.json", json.dumps({"version": version, "previous": []}).encode())
    again = ours.run()
    assert again["days"] == done["days"]

    test, earlier = (in_order(ours.folder / key) for key in ("runs/run2/test", folder_of("run2", WIDER)))
    for name in features_schema(CONTRACT).names[: 4 + len(CONTRACT.entities)]:
        assert earlier[name].equals(test[name])
    expected = in_order(theirs.folder / "runs/run1/test")
    for name in FeatureSet(WIDER).names:
        assert earlier[name].to_numpy().tobytes() == expected[name].to_numpy().tobytes()


def in_order(folder: Path) -> pa.Table:
    """The rows of a set, by time and id."""
    rows = pa.concat_tables([pq.read_table(path, partitioning=None) for path in folder.rglob("*.parquet")])
    return rows.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).combine_chunks()


@pytest.mark.parametrize(
    ("rows", "tasks"), [(0, 1), (9_999, 1), (25_000, 2), (2_000_000, 200), (60_000_000, 240), (60_000_001, 241)]
)
def test_the_number_of_tasks_follows_the_rows_and_fits_into_memory(spark: SparkSession, rows: int, tasks: int) -> None:
    setting = spark.conf.get("spark.sql.shuffle.partitions")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("processing.job.spark.ROWS_WORTH_A_TASK", 10_000)
        spark.conf.set("spark.sql.shuffle.partitions", "200")
        chosen = tasks_for(rows, spark)
    spark.conf.set("spark.sql.shuffle.partitions", str(setting))
    assert chosen == tasks


def test_a_changed_byte_stops_the_run_with_an_error_that_names_the_file(
    new: Callable[[str], Installation], season: pa.Table
) -> None:
    home = new("damaged")
    home.drop(days(season, 0, 15), "first.csv")
    home.run()
    (key,) = tables.open_tables(home.home, CONTRACT).files_by_day("transactions")[(START - EPOCH).days + 14]
    path = home.folder / key
    intact = path.read_bytes()
    home.drop(days(season, 15, 16), "next.csv")
    before = home.files(), home.snapshots()
    footer = len(intact) - 8 - int.from_bytes(intact[-8:-4], "little")
    for place in (footer // 8, footer // 2, footer + 1):  # in two columns and in the footer
        changed = bytearray(intact)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(Damaged, match=rf"^file:.*{path.name} .*cannot be read: .*`fraudline home repair`"):
            home.run()
        assert (home.files(), home.snapshots()) == before
    path.write_bytes(intact)
    assert home.run()["rows_new"] == len(days(season, 15, 16))


def test_spark_never_reads_a_changed_bit_as_another_value(
    spark: SparkSession, season: pa.Table, tmp_path: Path
) -> None:
    """In values, page headers and the footer, at random places."""
    schema = pa.schema([("transaction_id", pa.string()), ("amount", pa.float64()), ("is_fraud", pa.int32())])
    write(season.slice(0, 60).select(schema.names).cast(schema), tmp_path / "season.parquet")
    spark.read.parquet(str(tmp_path / "season.parquet")).write.parquet(str(tmp_path / "intact"))
    (path,) = (tmp_path / "intact").glob("*.parquet")
    intact, random, detected = path.read_bytes(), np.random.default_rng(3), 0
    expected = sorted(read_parquet(spark, [str(path)], schema).where("is_fraud < 2").collect())
    footer = len(intact) - 8 - int.from_bytes(intact[-8:-4], "little")
    for i, place in enumerate([*random.integers(4, footer, 10), *random.integers(footer, len(intact), 10)]):
        changed, file = bytearray(intact), tmp_path / f"{i}.parquet"
        changed[place] ^= 1 << random.integers(8)
        file.write_bytes(changed)
        try:
            rows = sorted(read_parquet(spark, [str(file)], schema).where("is_fraud < 2").collect())
        except (Py4JError, PySparkException):
            detected += 1
            continue
        assert rows == expected, place
    assert detected > 5
