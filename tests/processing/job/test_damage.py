"""Damage to a home's tables is detected, reported as damage and repaired; it never changes the values that are read."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_home import CONTRACT, FIRST, at, begin, ids, put, written

from processing.durations import DAY_US
from processing.errors import BadInput, Damaged
from processing.job.store_check import store_damage
from processing.job.store_repair import rebuild_store
from processing.job.table_check import Fault, damaged_tables
from processing.storage.local import LocalHome
from processing.store.decisions import Decision, Event
from processing.store.open import open_store
from processing.tables.schemas import quarantine_schema
from processing.tables.snapshots import row_counts, snapshot_id
from processing.tables.tables import open_tables


@pytest.fixture
def home(tmp_path: Path) -> LocalHome:
    """Two runs with their features; the files that each read are in archive/."""
    home = begin(tmp_path / "home")
    put(home, "two", ["b", "c"], FIRST + 1)
    tables = open_tables(home, CONTRACT)
    files = written(home, tables, "features", "two", {FIRST: ["a"], FIRST + 1: ["b", "c"]})
    keys = [key for keys in files.values() for key in keys]
    tables.replace_days("features", files, keys, made_from=snapshot_id(tables.transactions))
    for run in ("one", "two"):
        home.write(f"archive/{run}/{run}.csv", run.encode())
    snapshots = [snapshot.snapshot_id for snapshot in tables.transactions.snapshots()]
    for run, snapshot in zip(("one", "two"), snapshots, strict=True):
        record = f'{{"files": [{{"sha256": "{run}"}}], "snapshots": {{"transactions": {snapshot}}}}}'
        home.write(f"runs/{run}/features.json", record.encode())
    return home


def newest(home: LocalHome, pattern: str, table: str = "transactions") -> Path:
    paths = home.path("warehouse/fraudline").joinpath(table).rglob(pattern)
    return max(paths, key=lambda path: path.stat().st_mtime_ns)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x00garbage" * 40)


def flip_a_value(path: Path) -> None:
    """One bit in the first page of a Parquet file, after its header."""
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


DAMAGES = [truncate, overwrite, Path.unlink]


def problems(home: LocalHome) -> list[Fault]:
    return list(damaged_tables(home, CONTRACT))


def test_an_intact_home_and_a_new_one_have_no_problems(home: LocalHome, tmp_path: Path) -> None:
    assert problems(home) == []
    assert problems(at(tmp_path / "new")) == []


def waiting(home: LocalHome) -> set[str]:
    return {home.read(entry.key).decode() for entry in home.entries("incoming/")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_catalog_is_rebuilt_from_the_metadata(home: LocalHome, damage: Callable[[Path], None]) -> None:
    damage(home.path("warehouse/catalog.db"))
    (problem,) = problems(home)
    assert problem.repair is not None
    assert "no file has to be read again" in problem.repair()
    assert problems(home) == []
    assert ids(home) == ids(home, "features") == ["a", "b", "c"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["*.metadata.json", "*-m0.avro", "snap-*.avro"])
def test_a_table_returns_to_its_newest_intact_metadata_and_later_files_are_read_again(
    home: LocalHome, what: str, damage: Callable[[Path], None]
) -> None:
    damage(newest(home, what))
    (problem,) = problems(home)
    assert problem.repair is not None
    assert "1 file(s) of archive/ are in incoming/ again" in problem.repair()
    assert problems(home) == []
    assert ids(home) == ["a"]
    assert not open_tables(home, CONTRACT).features_are_current
    assert waiting(home) == {"two"}


@pytest.mark.parametrize("damage", [*DAMAGES, flip_a_value])
def test_damaged_features_are_recomputed(home: LocalHome, damage: Callable[[Path], None]) -> None:
    damage(newest(home, "*.parquet", "features"))
    (problem,) = problems(home)
    assert problem.repair is not None
    problem.repair()
    assert not open_tables(home, CONTRACT).features_are_current
    assert problems(home) == []


@pytest.mark.parametrize("damage", [*DAMAGES, flip_a_value])
def test_days_of_damaged_transactions_are_read_again(home: LocalHome, damage: Callable[[Path], None]) -> None:
    damage(newest(home, "*.parquet"))
    (problem,) = problems(home)
    assert problem.repair is not None
    problem.repair()
    assert problems(home) == []
    assert ids(home) == ["a"]
    assert waiting(home) == {"one", "two"}
    assert b'"files": []' in home.read("runs/two/features.json")


def test_a_damaged_quarantine_is_set_aside_and_replaced_by_a_new_one(home: LocalHome) -> None:
    tables = open_tables(home, CONTRACT)
    key = f"{tables.folder('quarantine')}/data/two/refused.parquet"
    home.path(key).parent.mkdir(parents=True)
    refused = pa.Table.from_pylist([{"run": "two", "line": 1}], quarantine_schema())
    pq.write_table(refused, home.path(key))
    tables.append("quarantine", key)
    truncate(home.path(key))
    (problem,) = problems(home)
    assert problem.repair is not None
    problem.repair()
    assert problems(home) == []
    assert open_tables(home, CONTRACT).find("quarantine") is None


@pytest.mark.parametrize("what", ["*.metadata.json", "*-m0.avro", "snap-*.avro"])
def test_a_flipped_bit_in_the_metadata_never_changes_the_rows_that_are_read(home: LocalHome, what: str) -> None:
    def read() -> object:
        tables = open_tables(home, CONTRACT)
        return row_counts(tables.transactions), row_counts(tables.transactions, labelled=True)

    path, random_source, expected = newest(home, what), random.Random(what), read()
    data = path.read_bytes()
    detected = 0
    for _ in range(60):
        flipped = bytearray(data)
        flipped[random_source.randrange(len(data))] ^= 1 << random_source.randrange(8)
        path.write_bytes(flipped)
        try:
            assert read() == expected
        except (Damaged, BadInput):
            detected += 1
    assert detected > 20


@pytest.mark.spark
def test_a_damaged_store_is_rebuilt_and_keeps_what_can_be_read(
    home: LocalHome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from processing.job.spark import start_spark

    start_spark(tmp_path_factory.mktemp("spark"), cores="2")  # later tests go on using this session
    assert store_damage(home) == ""
    store = open_store(home, CONTRACT)
    later = (FIRST + 3) * DAY_US
    for i in range(400):
        event = Event(f"e{i:03}", later + i, 5, ("C", "T"))
        store.record(Decision(event, "legit", 0.1, 0.5, "v", b"x" * 300, datetime.now(UTC)))
    store.report("e001", True)
    store.report("e398", False)
    store.tidy()
    store.close()
    path = home.path("online/store.sqlite")
    data = bytearray(path.read_bytes())
    middle = data.index(b"e200") // 4096 * 4096
    data[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    assert store_damage(home)
    assert "profiles were set from the tables" in rebuild_store(home, CONTRACT)
    assert store_damage(home) == ""
    store = open_store(home, CONTRACT)
    kept = {decision.event.transaction_id for decision in store.decisions(1000)}
    assert {"e001", "e398"} <= kept
    assert 200 < len(kept) < 400
    assert {key: label for key, (_, label) in store.reports().newest.items()} == {"e001": True, "e398": False}
    _, state = store.recall(Event("probe", later + 1_000_000, 5, ("C", "T")))  # a second later
    assert state[0] >= len(kept)  # the last day's; the rows of the tables are outside the window
    store.close()
