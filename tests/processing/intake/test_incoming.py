"""The incoming folder: only complete files with a known suffix are read."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.definition.pipeline import build_definition
from pipeline.definition.requests import LOCAL_ADDRESSES
from processing.errors import BadInput
from processing.intake.incoming import (
    ClaimedFile,
    Claims,
    complete_files,
    copy_to_incoming,
    release_abandoned,
    waiting_files,
)
from processing.intake.precedence import file_precedence
from processing.storage.home import Entry, Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "incoming").mkdir()
    return open_home(tmp_path)


def drop(folder: Path, name: str, text: str = "a,b\n1,2\n", age: float = 3600) -> Path:
    """Create a file that was last written `age` seconds ago."""
    path = folder / "incoming" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_files_are_recognised_by_their_suffixes(home: Home, tmp_path: Path) -> None:
    for name in ("a.csv", "b.CSV", "c.csv.gz", "d.parquet", "2026/march/e.csv"):
        drop(tmp_path, name)
    for name in (
        ".f.csv",
        "_g.csv",
        ".h.csv.part",
        "i.csv.tmp",
        "j.txt",
        "k.gz",
        "l.json",
        "README",
        "2026/.m.csv",
        "_temporary/0/n.csv",
        "2026/.trash/o.csv",
        "_delta_log/00.checkpoint.parquet",
    ):
        drop(tmp_path, name)
    assert [entry.key.removeprefix("incoming/") for entry in waiting_files(home)] == [
        *("2026/march/e.csv", "a.csv", "b.CSV", "c.csv.gz", "d.parquet")
    ]


def test_a_home_without_an_incoming_folder_has_no_waiting_files(tmp_path: Path) -> None:
    assert waiting_files(open_home(tmp_path / "new")) == []
    assert complete_files(open_home(tmp_path / "new")) == []


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def names(home: Home) -> list[str]:
    return [entry.key.removeprefix("incoming/") for entry in waiting_files(home)]


def test_claimed_files_have_their_names_sizes_and_digests(home: Home, tmp_path: Path, stack: ExitStack) -> None:
    drop(tmp_path, "more/a.csv", "abc")
    with Claims(home, "run1", stack) as claims:
        claims.claim(complete_files(home))
        (file,) = claims.files
    assert (file.name, file.entry.size) == ("more/a.csv", 3)
    assert file.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_run_waits_for_a_file_that_is_being_written(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "whole.csv")
    path = drop(tmp_path, "growing.csv", "x\n", age=0)

    def write() -> None:
        for _ in range(4):
            time.sleep(0.15)
            with path.open("a") as file:
                file.write("more\n")

    writer = threading.Thread(target=write)
    writer.start()
    entries = complete_files(home, seconds=0.6, patience=20)
    assert not writer.is_alive()
    assert {entry.key: entry.size for entry in entries} == {"incoming/growing.csv": 22, "incoming/whole.csv": 8}


def test_a_file_that_keeps_growing_is_left_for_the_next_run(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "whole.csv")
    drop(tmp_path, "growing.csv", age=-3600)  # by a clock ahead of ours, so it always seems to be growing
    assert [entry.key for entry in complete_files(home, seconds=0.1, patience=0.3)] == ["incoming/whole.csv"]


@pytest.mark.parametrize("how", ["grows", "is rewritten"])
def test_a_file_that_changes_after_it_was_claimed_is_refused(
    home: Home, tmp_path: Path, stack: ExitStack, how: str
) -> None:
    path, _ = drop(tmp_path, "a.csv"), drop(tmp_path, "b.csv")
    with path.open("r+") as writer, Claims(home, "run1", stack) as claims:
        claims.claim(complete_files(home))
        claims.check_unchanged()
        drop(tmp_path, "later.csv")  # is for the next run
        claims.check_unchanged()
        if how == "grows":
            writer.seek(0, os.SEEK_END)
            writer.write("3,4\n")
        else:
            writer.write("a,b\n1,3\n")
        writer.flush()
        with pytest.raises(BadInput, match=r"a\.csv changed while it was read; nothing was committed\. Write files"):
            claims.check_unchanged()
    assert names(home) == ["a.csv", "b.csv", "later.csv"]


def test_a_file_replaced_after_the_listing_is_left_for_the_next_run(
    home: Home, tmp_path: Path, stack: ExitStack
) -> None:
    drop(tmp_path, "a.csv"), drop(tmp_path, "b.csv"), drop(tmp_path, "c.csv")
    listed = complete_files(home)
    drop(tmp_path, "a.csv", "a,b\n1,3\n", age=60)
    (tmp_path / "incoming/b.csv").unlink()
    with Claims(home, "run1", stack) as claims:
        claims.claim(listed)
        assert [file.name for file in claims.files] == ["c.csv"]
    assert names(home) == ["a.csv", "c.csv"]


def test_files_that_were_read_are_archived_under_their_run_and_later_ones_stay(
    home: Home, tmp_path: Path, stack: ExitStack
) -> None:
    drop(tmp_path, "more/a.csv")
    with Claims(home, "run7", stack) as claims:
        claims.claim(complete_files(home))
        drop(tmp_path, "more/a.csv", "a,b\n5,6\n")
        drop(tmp_path, "b.csv")
        claims.archive()
    assert names(home) == ["b.csv", "more/a.csv"]
    assert home.read("archive/run7/more/a.csv") == b"a,b\n1,2\n"
    assert home.read("incoming/more/a.csv") == b"a,b\n5,6\n"
    assert home.entries("claimed/") == []


def test_files_claimed_by_a_killed_run_wait_again(home: Home, tmp_path: Path, stack: ExitStack) -> None:
    drop(tmp_path, "more/a.csv"), drop(tmp_path, "b.csv")
    Claims(home, "killed", stack).claim(complete_files(home))
    assert names(home) == []
    newer = drop(tmp_path, "b.csv", "a,b\n7,8\n")
    release_abandoned(home)
    waiting = {name: home.read(f"incoming/{name}") for name in names(home)}
    assert waiting == {"2-b.csv": b"a,b\n1,2\n", "b.csv": b"a,b\n7,8\n", "more/a.csv": b"a,b\n1,2\n"}
    assert newer.exists()
    assert home.entries("claimed/") == []


def folder_of_files(folder: Path, **files: str) -> Home:
    """Another folder with files, oldest first. In their names __ stands for a slash."""
    for age, (name, text) in enumerate(files.items()):
        path = folder / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1.7e9 + age, 1.7e9 + age))
    return open_home(folder)


def test_files_of_one_name_are_copied_in_with_their_folders(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "part-0.csv", "waits")
    source = folder_of_files(
        tmp_path / "drop", month_04__part_0="april", month_03__part_0="march", _temporary__0__part_0="half"
    )
    assert copy_to_incoming(home, source) == ["month_04/part_0.csv", "month_03/part_0.csv"]
    contents = {entry.key: home.read(entry.key) for entry in waiting_files(home)}
    assert contents == {
        "incoming/month_03/part_0.csv": b"march",
        "incoming/month_04/part_0.csv": b"april",
        "incoming/part-0.csv": b"waits",
    }
    by_age = sorted(waiting_files(home), key=lambda entry: entry.modified)[-2:]
    assert [entry.key for entry in by_age] == ["incoming/month_04/part_0.csv", "incoming/month_03/part_0.csv"]


def test_copied_files_do_not_replace_waiting_ones(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "b.csv", "waits")
    source = folder_of_files(tmp_path / "drop", a="new", b="other")
    with pytest.raises(BadInput, match=r"/b\.csv is waiting to be read, and .*drop/b\.csv is a different"):
        copy_to_incoming(home, source)
    assert {entry.key: home.read(entry.key) for entry in waiting_files(home)} == {"incoming/b.csv": b"waits"}
    drop(tmp_path, "b.csv", "other")  # as after a failed run: the same file is not copied again
    assert copy_to_incoming(home, source) == ["a.csv"]


def test_a_home_is_not_copied_into_itself(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "a.csv")
    assert copy_to_incoming(home, open_home(tmp_path / "incoming")) == []
    for place in (tmp_path, tmp_path.parent):
        with pytest.raises(BadInput, match="contains this home's own files"):
            copy_to_incoming(home, open_home(place))
    assert [entry.key for entry in waiting_files(home)] == ["incoming/a.csv"]


def precedence(home: Home, folder: Path, **ages: float) -> dict[str, tuple[int, bool, bool]]:
    """Order, repeated and late for files of these ages, compared with one another and with the archive."""
    now = time.time()
    files = []
    for name, age in ages.items():
        entry = Entry(f"incoming/{name.replace('_', '-')}.csv", 4, now - age)
        files.append(ClaimedFile(entry, entry.key, Path(), hashlib.sha256(name.encode()).hexdigest()))
    return {file.name: (file.order, file.repeated, file.late) for file in file_precedence(home, files)}


def test_files_are_ordered_by_age_and_by_the_numbers_in_their_names(home: Home, tmp_path: Path) -> None:
    files = precedence(home, tmp_path, labels_9=60, labels_10=60, all=5, late=1)
    assert list(files) == ["labels-9.csv", "labels-10.csv", "all.csv", "late.csv"]
    assert [order for order, _, _ in files.values()] == [0, 1, 2, 3]
    assert {(repeated, late) for _, repeated, late in files.values()} == {(False, True)}


def test_the_archive_shows_which_files_are_repeated_and_which_are_late(home: Home, tmp_path: Path) -> None:
    home.write("archive/r1/some.csv", b"once")
    os.utime(tmp_path / "archive/r1/some.csv", (time.time() - 100, time.time() - 100))
    assert precedence(home, tmp_path, once=200, twin=50) == {"once.csv": (0, True, False), "twin.csv": (1, False, True)}
    home.write("runs/r1/features.json", b'{"files": [{"name": "some.csv", "modified": %d}]}' % (time.time() - 20))
    assert precedence(home, tmp_path, twin=50)["twin.csv"] == (0, False, False)


def test_a_run_in_a_new_home_reads_the_folder_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.local import LocalExecution
    from pipeline.runs import local_run as run

    monkeypatch.setattr(LocalExecution, "execute", lambda self, progress: dict(self.parameters))
    monkeypatch.setattr(run, "local_definition", lambda home: build_definition(LOCAL_ADDRESSES))
    home = open_home(tmp_path / "home")
    assert isinstance(home, LocalHome)
    drop_folder = folder_of_files(tmp_path / "drop")
    with pytest.raises(BadInput, match=r"no files to read: .*\(there are none in file:.*/drop either\)"):
        run.run_pipeline(home, {"InputDataUrl": drop_folder.url}, lambda event: None)
    with pytest.raises(BadInput, match=r"no files to read: put .*/incoming, or name them"):
        run.run_pipeline(home, {}, lambda event: None)
    folder_of_files(tmp_path / "drop", month_03__part_0="march")
    outcome: Any = run.run_pipeline(home, {"InputDataUrl": drop_folder.url}, lambda event: None)
    assert outcome["InputDataUrl"] == drop_folder.url
