"""The tables of a home: commits are all or nothing, and the home can be moved."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.transforms import DayTransform
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session
from table_home import CONTRACT, FIRST, at, begin, ids, put, written

from processing.contracts.reader import load, parse
from processing.errors import BadInput, Conflict, Damaged, NotFound
from processing.storage.local import LocalHome
from processing.tables.commit import Changes, commit
from processing.tables.leftovers import referenced, sweep
from processing.tables.locations import LocalFiles
from processing.tables.schemas import transaction_schema
from processing.tables.snapshots import row_counts, snapshot_id
from processing.tables.tables import Tables, open_tables

ODD = [
    "my home",
    "a+b",
    "job@2",
    "(1),=&",
    "a:b",
    "a#b?c",
    "[z]{y}*",
    "h%20ome",
    "José",
    "äöü ß",
    "a\\b",
    "~",
    "x'y\"z",
]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ODD)
def test_the_tables_are_in_the_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    home = at(tmp_path / "homes" / name)
    put(home, "one", ["a"])
    put(home, "two", ["b"], FIRST + 1)
    assert ids(home) == ["a", "b"]
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [name]
    assert open_tables(home, CONTRACT).rows_read_back("transactions", [FIRST, FIRST + 1]) == 2


def move(home: Path, to: Path) -> Path:
    home.rename(to)
    return to


def copy(home: Path, to: Path) -> Path:
    shutil.copytree(home, to)
    return to


def link(home: Path, to: Path) -> Path:
    to.symlink_to(home)
    return to


def begin_with_absolute_locations(folder: Path) -> LocalHome:
    """A home of an earlier version, whose metadata has absolute locations."""
    home = at(folder)
    warehouse = home.path("warehouse")
    warehouse.mkdir(parents=True)
    catalog = SqlCatalog("fraudline", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=warehouse.as_uri())
    catalog.create_namespace("fraudline")
    schema = pa.schema([field.with_nullable(True) for field in transaction_schema(CONTRACT)])
    table = catalog.create_table(("fraudline", "transactions"), schema)
    with table.update_spec() as spec:
        spec.add_field("event_time", DayTransform(), "day")
    assert table.location() == f"{home.url}/warehouse/fraudline/transactions"
    files = written(home, open_tables(home, CONTRACT), "transactions", "one", {FIRST: ["a"]})
    table.add_files([f"{home.url}/{key}" for key in files[FIRST]])
    catalog.close()
    return home


@pytest.mark.parametrize("make", [begin, begin_with_absolute_locations])
@pytest.mark.parametrize("moved", [move, copy, link])
def test_a_home_can_be_moved_copied_or_linked(
    tmp_path: Path, make: Callable[[Path], LocalHome], moved: Callable[[Path, Path], Path]
) -> None:
    first = make(tmp_path / "first").folder
    other = at(moved(first, tmp_path / "other folder"))
    before = content(first) if first.exists() else {}
    assert ids(other) == ["a"]
    put(other, "two", ["b"], FIRST + 1)
    assert ids(other) == ["a", "b"]
    if moved is copy:
        assert content(first) == before
        assert ids(at(first)) == ["a"]
    elif moved is link:
        assert ids(at(first)) == ["a", "b"]


def test_a_home_with_absolute_locations_can_be_used(tmp_path: Path) -> None:
    home = begin_with_absolute_locations(tmp_path / "home")
    assert ids(home) == ["a"]
    put(home, "two", ["b"])
    assert ids(home) == ["b"]


@pytest.mark.parametrize("make", [begin, begin_with_absolute_locations])
def test_the_catalog_of_another_home_is_refused_before_anything_is_written(
    tmp_path: Path, make: Callable[[Path], LocalHome]
) -> None:
    make(tmp_path / "first")
    other = at(tmp_path / "other")
    other.path("warehouse").mkdir(parents=True)
    shutil.copyfile(tmp_path / "first/warehouse/catalog.db", other.path("warehouse/catalog.db"))
    before = content(tmp_path)
    with pytest.raises(Damaged, match=r"the table transactions of the home .*other"):
        open_tables(other, CONTRACT)
    assert content(tmp_path) == before


def test_opening_tables_changes_nothing(tmp_path: Path) -> None:
    new = at(tmp_path / "new")
    with pytest.raises(NotFound, match="has no transactions yet"):
        _ = open_tables(new, CONTRACT).transactions
    assert not new.folder.exists()
    home = begin(tmp_path / "home")
    tables = open_tables(home, CONTRACT)
    files = written(home, tables, "features", "one", {FIRST: ["a"]})
    tables.replace_days("features", files, files[FIRST], made_from=1)
    before = content(home.folder)
    other = load("transactions").text.replace("[1, 7, 30]", "[1, 7]")
    opened = open_tables(home, parse(other))
    assert opened.find("features") is None
    assert not opened.features_are_current
    assert ids(home, "features") == ["a"]
    assert content(home.folder) == before


def test_features_with_another_definition_are_set_aside_by_the_commit_of_new_ones(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    tables = open_tables(home, CONTRACT)
    files = written(home, tables, "features", "one", {FIRST: ["a"]})
    tables.replace_days("features", files, files[FIRST], made_from=1)
    opened = open_tables(home, parse(CONTRACT.text.replace("[1, 7, 30]", "[1, 7]")))
    opened.replace_days("features", [], [], made_from=1)
    assert len(referenced(home)) == 2
    assert row_counts(opened.features) == {}


def test_transactions_with_other_columns_are_refused(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    with pytest.raises(BadInput, match=r"the table transactions .* has the columns"):
        open_tables(home, load("sparkov"))
    as_number = CONTRACT.text.replace("numeric = []", 'numeric = ["channel"]').replace("categorical = {", "# {")
    with pytest.raises(BadInput, match="channel cannot be added"):
        open_tables(home, parse(as_number))


AGED = parse(CONTRACT.text.replace("numeric = []", 'numeric = ["age"]').replace("categorical = {", "# {"))


def test_a_column_that_is_added_is_null_in_older_rows_and_one_that_is_removed_stays_readable(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    assert open_tables(home, AGED).read("transactions")["age"].to_pylist() == [None]  # before anything is committed
    put(home, "two", ["b"], FIRST + 1, AGED)
    tables = open_tables(home, AGED)
    rows = tables.read("transactions").sort_by("transaction_id")
    assert rows.schema.names == transaction_schema(AGED).names
    assert rows["age"].to_pylist() == [None, 7.0]
    assert tables.stored_schema("transactions").names == [*transaction_schema(AGED).names, "channel"]
    everything = tables.transactions.scan().to_arrow().sort_by("transaction_id")
    assert everything["channel"].to_pylist() == ["chip", None]
    back = open_tables(home, CONTRACT).read("transactions").sort_by("transaction_id")
    assert back["channel"].to_pylist() == ["chip", None]
    tables.check_footers("transactions", [key for keys in tables.files_by_day("transactions").values() for key in keys])


def test_a_column_that_a_files_footer_lost_is_not_taken_for_one_added_later(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    ((key,),) = open_tables(home, CONTRACT).files_by_day("transactions").values()
    rows = pq.read_table(home.path(key), partitioning=None)
    pq.write_table(
        rows.rename_columns([name.replace("channel", "chanmel") for name in rows.column_names]), home.path(key)
    )
    with pytest.raises(Damaged, match="channel is missing"):
        open_tables(home, CONTRACT).read("transactions")
    with pytest.raises(Damaged, match="channel is missing"):
        open_tables(home, AGED).read("transactions")


def test_features_of_the_same_names_that_are_computed_otherwise_are_not_current(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    tables = open_tables(home, CONTRACT)
    files = written(home, tables, "features", "one", {FIRST: ["a"]})
    tables.replace_days("features", files, files[FIRST], made_from=snapshot_id(tables.transactions))
    assert open_tables(home, CONTRACT).features_are_current
    assert open_tables(
        home, parse(CONTRACT.text.replace("missed_fraud = 1.0", "missed_fraud = 2.0"))
    ).features_are_current
    for old, new in (("delay_days = 7", "delay_days = 2"), ('"chip", "contactless"', '"contactless", "chip"')):
        opened = open_tables(home, parse(CONTRACT.text.replace(old, new)))
        assert not opened.features_are_current
        assert opened.find("features") is None


def test_a_commit_fails_if_the_table_changed_since_it_was_read(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    first, second = open_tables(home, CONTRACT), open_tables(home, CONTRACT)
    ours = written(home, first, "transactions", "ours", {FIRST + 1: ["b"]})
    theirs = written(home, second, "transactions", "theirs", {FIRST + 1: ["b"], FIRST + 2: ["c"]})
    first.replace_days("transactions", ours, ours[FIRST + 1])
    for days in ([FIRST + 1], [FIRST + 2]):  # even if the runs change different days
        with pytest.raises(Conflict, match="another run changed the table transactions"):
            second.replace_days("transactions", days, theirs[days[0]])
    with pytest.raises(Conflict):
        second.append("transactions", theirs[FIRST + 2][0])
    assert ids(home) == ["a", "b"]


def test_only_one_of_two_first_commits_succeeds(tmp_path: Path) -> None:
    home = at(tmp_path / "home")
    first, second = open_tables(home, CONTRACT), open_tables(home, CONTRACT)
    files = written(home, first, "transactions", "one", {FIRST: ["a"]})
    first.replace_days("transactions", files, files[FIRST])
    with pytest.raises(Conflict):
        second.replace_days("transactions", files, files[FIRST])
    assert ids(home) == ["a"]


def changes_of(home: LocalHome, tables: Tables, run: str, day: int, names: list[str]) -> Changes:
    folders = {name: f"{tables.folder(name)}/data/{run}" for name in ("transactions", "features")}
    return Changes(
        transactions=written(home, tables, "transactions", run, {day: names}),
        rows=len(names),
        features=written(home, tables, "features", run, {day: names}),
        folders=folders,
    )


def test_a_conflict_leaves_no_files(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    tables = open_tables(home, CONTRACT)
    changes = changes_of(home, tables, "late", FIRST + 1, ["b"])
    put(home, "early", ["c"], FIRST + 2)
    with pytest.raises(Conflict):
        commit(tables, changes, lambda key: home.remove(f"{key}/"))
    assert ids(home) == ["a", "c"]
    assert not [entry.key for entry in home.entries("warehouse/") if "/data/late/" in entry.key]


def test_a_run_that_lost_its_lease_commits_nothing(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    tables = open_tables(home, CONTRACT)
    changes = changes_of(home, tables, "late", FIRST + 1, ["b"])

    def taken_over() -> None:
        raise Conflict("another run took it over")

    with pytest.raises(Conflict, match="took it over"):
        commit(tables, changes, lambda key: home.remove(f"{key}/"), taken_over)
    assert ids(home) == ["a"]
    assert not [entry.key for entry in home.entries("warehouse/") if "/data/late/" in entry.key]


class _Trigger:
    """Sends a signal to this process at the n-th call."""

    def __init__(self, number: int, which: signal.Signals) -> None:
        self.remaining, self.which = number, which

    def count_down(self, *_: Any) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            os.kill(os.getpid(), self.which)


@contextmanager
def signalled(kind: str, number: int, which: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Trigger]:
    """Handle SIGTERM as the job does, and send a signal at the n-th point of a kind, during a `with` block."""

    def exit_job(number: int, frame: FrameType | None) -> None:
        raise SystemExit(143)

    point = _Trigger(number, which)
    before = signal.signal(signal.SIGTERM, exit_job)
    targets = {"catalog commits": (Engine, "commit"), "catalog committed": (Session, "after_commit")}
    write = LocalFiles.new_output
    try:
        if kind in targets:
            event.listen(*targets[kind], point.count_down)
        else:

            def passed(files: LocalFiles, location: str) -> Any:
                point.count_down()
                return write(files, location)

            monkeypatch.setattr(LocalFiles, "new_output", passed)
        yield point
    finally:
        if kind in targets:
            event.remove(*targets[kind], point.count_down)
        else:
            monkeypatch.setattr(LocalFiles, "new_output", write)
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["a file is written", "catalog commits", "catalog committed"])
def test_a_signal_at_any_point_of_a_commit_destroys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, which: signal.Signals
) -> None:
    home = begin(tmp_path / "home")
    number = 0
    while True:
        number += 1
        day, run = FIRST + number, f"run{number}"
        tables = open_tables(home, CONTRACT)
        known = ids(home)
        changes = changes_of(home, tables, run, day, [f"{run}-x", f"{run}-y"])
        with signalled(kind, number, which, monkeypatch) as point, suppress(SystemExit, KeyboardInterrupt):
            commit(tables, changes, lambda key: home.remove(f"{key}/"))
        del tables, changes  # releases the catalog, as the end of the process would
        gc.collect()
        after = ids(home)
        assert after in (known, sorted([*known, f"{run}-x", f"{run}-y"]))
        assert referenced(home) <= {entry.key for entry in home.entries("warehouse/")}
        sweep(home)
        assert {entry.key for entry in home.entries("warehouse/") if "/data/" in entry.key} == referenced(home)
        assert ids(home) == after
        if point.remaining > 0:  # the commit has no more points of this kind
            break
    assert number > 2


def test_unused_files_of_runs_are_removed_and_those_of_other_writers_are_not(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    put(home, "two", ["b"])  # replaces the day; the first snapshot stays readable
    tables = open_tables(home, CONTRACT)
    written(home, tables, "transactions", "killed", {FIRST: ["x"], FIRST + 1: ["y"]})
    foreign = f"{tables.folder('transactions')}/data/day=2024-10-05/00000-0-of-another-writer.parquet"
    home.write(foreign, b"not committed yet")
    in_use = referenced(home)
    assert sweep(home) == 2
    assert {entry.key for entry in home.entries("warehouse/") if "/data/" in entry.key} == {*in_use, foreign}
    assert sweep(home) == 0
    assert len(in_use) == 2


def test_a_home_without_its_catalog_is_damaged_not_new(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    home.delete("warehouse/catalog.db")
    before = content(home.folder)
    with pytest.raises(Damaged, match=r"lacks the table transactions.*home repair"):
        open_tables(home, CONTRACT)
    assert content(home.folder) == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x00garbage" * 40)


@pytest.mark.parametrize("damage", [truncate, overwrite, Path.unlink])
@pytest.mark.parametrize(
    "what", ["catalog.db", "metadata/*.metadata.json", "metadata/*-m0.avro", "metadata/snap-*.avro"]
)
def test_a_damaged_file_raises_damaged(tmp_path: Path, what: str, damage: Callable[[Path], None]) -> None:
    home = begin(tmp_path / "home")
    newest = max(home.path("warehouse").rglob(what.rpartition("/")[2]), key=lambda path: path.stat().st_mtime_ns)
    damage(newest)
    with pytest.raises(Damaged, match="fraudline home repair"):
        open_tables(home, CONTRACT).files_by_day("transactions")
