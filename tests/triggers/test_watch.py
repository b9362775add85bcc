"""The watcher: files that arrive together make one run, and a failed run is not retried over and over."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from processing.errors import BadInput, Conflict, FraudlineError
from processing.storage.local import LocalHome
from triggers import watch as watching
from triggers.watch import watch


class WatchEnded(BaseException):
    """Ends the watcher, as Ctrl-C does."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHome:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(watching, "BUSY_SECONDS", 0.05, raising=False)
    home = LocalHome(tmp_path)
    home.path("incoming").mkdir()
    return home


def land(home: LocalHome, *names: str) -> None:
    for name in names:
        home.path(f"incoming/{name}").write_text("x")
        old = time.time() - 60
        os.utime(home.path(f"incoming/{name}"), (old, old))


def watch_runs(
    home: LocalHome, run: Callable[[list[str]], None], *, runs: int, seconds: float = 1.5
) -> list[list[str]]:
    """Watch for some seconds and check the number of runs; returns the files that waited when each began."""
    waiting: list[list[str]] = []
    deadline = time.monotonic() + seconds

    def start() -> None:
        names = sorted(path.name for path in home.path("incoming").iterdir())
        waiting.append(names)
        run(names)

    def stop_in_time() -> None:
        while time.monotonic() < deadline:
            time.sleep(0.05)
        land(home, "the-end.csv")

    def start_or_end() -> None:
        if home.path("incoming/the-end.csv").exists():
            raise WatchEnded
        start()

    threading.Thread(target=stop_in_time, daemon=True).start()
    with pytest.raises(WatchEnded):
        watch(home, start_or_end, lambda error: None)
    assert len(waiting) == runs
    return waiting


def remove_files(home: LocalHome) -> Callable[[list[str]], None]:
    def run(names: list[str]) -> None:
        for name in names:
            home.path(f"incoming/{name}").unlink()

    return run


def test_files_that_arrive_together_make_one_run(home: LocalHome) -> None:
    land(home, "a.csv", "b.csv", "c.parquet")
    assert watch_runs(home, remove_files(home), runs=1) == [["a.csv", "b.csv", "c.parquet"]]


def test_files_that_arrive_during_a_run_make_exactly_one_more(home: LocalHome) -> None:
    land(home, "a.csv")
    remove = remove_files(home)

    def run(names: list[str]) -> None:
        remove(names)
        if names == ["a.csv"]:
            land(home, "b.csv", "c.csv")

    assert watch_runs(home, run, runs=2) == [["a.csv"], ["b.csv", "c.csv"]]


def test_a_file_still_being_written_starts_nothing(home: LocalHome) -> None:
    home.path("incoming/growing.csv").write_text("x")  # changed just now
    assert watch_runs(home, remove_files(home), runs=0, seconds=0.8) == []


def test_a_failed_run_is_retried_only_when_something_has_changed(home: LocalHome) -> None:
    land(home, "bad.csv")

    def run(names: list[str]) -> None:
        raise BadInput("bad.csv has no column 'amount'")

    assert watch_runs(home, run, runs=1) == [["bad.csv"]]


def test_a_file_that_arrives_during_a_failed_run_starts_another(home: LocalHome) -> None:
    land(home, "bad.csv")
    errors: list[FraudlineError] = []

    def start() -> None:
        if home.path("incoming/good.csv").exists():
            raise WatchEnded
        land(home, "good.csv")
        raise BadInput("bad.csv has no column 'amount'")

    with pytest.raises(WatchEnded):
        watch(home, start, errors.append)
    assert len(errors) == 1


def test_a_run_that_finds_another_in_progress_is_retried_and_reported_once(home: LocalHome) -> None:
    land(home, "a.csv")
    errors: list[FraudlineError] = []
    tries = 0

    def start() -> None:
        nonlocal tries
        tries += 1
        if tries == 4 or home.path("incoming/the-end.csv").exists():
            raise WatchEnded
        raise Conflict("a run is going on")

    end = threading.Timer(20, lambda: land(home, "the-end.csv"))  # ends a watcher that waits for files to change
    end.start()
    with pytest.raises(WatchEnded):
        watch(home, start, errors.append)
    end.cancel()
    assert tries == 4
    assert len(errors) == 1
