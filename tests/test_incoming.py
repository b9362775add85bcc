"""The incoming folder: only whole files are taken in, and only files that say what they are."""

import os
import threading
import time
from pathlib import Path

import pytest

from processing.errors import BadInput
from processing.home import Home, open_home
from processing.incoming import archive, check_unchanged, settled, waiting


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "incoming").mkdir()
    return open_home(tmp_path)


def drop(folder: Path, name: str, text: str = "a,b\n1,2\n", age: float = 3600) -> Path:
    """A file that was last written so many seconds ago."""
    path = folder / "incoming" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_files_are_known_by_their_suffixes(home: Home, tmp_path: Path) -> None:
    for name in ("a.csv", "b.CSV", "c.csv.gz", "d.parquet", "2026/march/e.csv"):
        drop(tmp_path, name)
    for name in (".f.csv", "_g.csv", ".h.csv.part", "i.csv.tmp", "j.txt", "k.gz", "l.json", "README", "2026/.m.csv"):
        drop(tmp_path, name)
    assert [entry.key.removeprefix("incoming/") for entry in waiting(home)] == [
        *("2026/march/e.csv", "a.csv", "b.CSV", "c.csv.gz", "d.parquet")
    ]


def test_a_home_without_the_folder_has_nothing_waiting(tmp_path: Path) -> None:
    assert waiting(open_home(tmp_path / "new")) == []
    assert settled(open_home(tmp_path / "new")) == []


def test_arrivals_have_their_names_sizes_and_digests(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "more/a.csv", "abc")
    (arrival,) = settled(home)
    assert (arrival.name, arrival.entry.size) == ("more/a.csv", 3)
    assert arrival.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_being_written_is_waited_for(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "whole.csv")
    path = drop(tmp_path, "growing.csv", "x\n", age=0)

    def write() -> None:
        for _ in range(4):
            time.sleep(0.15)
            with path.open("a") as file:
                file.write("more\n")

    writer = threading.Thread(target=write)
    writer.start()
    arrivals = settled(home, seconds=0.6, patience=20)
    assert not writer.is_alive()
    assert {arrival.name: arrival.entry.size for arrival in arrivals} == {"growing.csv": 22, "whole.csv": 8}


def test_what_does_not_end_is_left_for_the_next_run(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "whole.csv")
    drop(tmp_path, "growing.csv", age=-3600)  # a clock ahead of ours: it never seems to rest
    assert [arrival.name for arrival in settled(home, seconds=0.1, patience=0.3)] == ["whole.csv"]


@pytest.mark.parametrize("how", ["grows", "is rewritten", "vanishes"])
def test_a_change_is_noticed(home: Home, tmp_path: Path, how: str) -> None:
    path, _ = drop(tmp_path, "a.csv"), drop(tmp_path, "b.csv")
    arrivals = settled(home)
    check_unchanged(home, arrivals)
    drop(tmp_path, "later.csv")  # is for the next run
    check_unchanged(home, arrivals)
    if how == "grows":
        path.write_text("a,b\n1,2\n3,4\n")
    elif how == "is rewritten":
        drop(tmp_path, "a.csv", "a,b\n1,3\n", age=60)
    else:
        path.unlink()
    with pytest.raises(BadInput, match=r"a\.csv changed while it was read; nothing was committed\. Write files under"):
        check_unchanged(home, arrivals)


def test_what_was_committed_goes_to_the_archive_under_its_run(home: Home, tmp_path: Path) -> None:
    drop(tmp_path, "more/a.csv"), drop(tmp_path, "b.csv")
    arrivals = [arrival for arrival in settled(home) if arrival.name != "b.csv"]
    archive(home, arrivals, "run7")
    assert [entry.key for entry in waiting(home)] == ["incoming/b.csv"]
    assert home.read("archive/run7/more/a.csv") == b"a,b\n1,2\n"
