"""A home's lease, in a folder or a bucket: one run holds it; an abandoned one is taken over, a lost one detected."""

import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processing.errors import Conflict, Damaged
from processing.processes import children
from processing.processes.identity import Process
from processing.processes.lease import KEY, TOKEN, Lease, hold
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cloud)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "local":
        return open_home(tmp_path / "home")
    make: Callable[[], str] = request.getfixturevalue("s3_url")
    return open_home(make())


def hold_lease(home: Home, run: str = "r", seconds: float = 60.0) -> Any:
    return hold(home, run, say=lambda line: None, seconds=seconds)


def document(home: Home) -> dict[str, Any]:
    lease: dict[str, Any] = json.loads(home.read(KEY))
    return lease


def change(home: Home, **changes: Any) -> None:
    """Write the lease as another process would."""
    home.write(KEY, json.dumps(document(home) | changes).encode())


def another(**changes: Any) -> list[dict[str, Any]]:
    return [Process.current().document() | changes]


def test_one_run_holds_the_lease_and_releases_it(home: Home) -> None:
    with hold_lease(home, "one") as lease:
        lease.check()
        began = time.monotonic()
        with (
            pytest.raises(Conflict, match=r"a run is in progress in .*: run one, process \d+ of"),
            hold_lease(home, "two"),
        ):
            pass
        assert time.monotonic() - began < 20  # at once, not after its duration
        lease.check()
    with hold_lease(home, "two"):
        assert document(home)["run"] == "two"
    assert document(home)["owner"] is None


def test_a_failed_run_releases_the_lease(home: Home) -> None:
    with pytest.raises(ZeroDivisionError), hold_lease(home):
        raise ZeroDivisionError
    with hold_lease(home):
        pass


def contend(address: str, folder: str, times: int) -> None:
    """Hold the lease several times, checking that nobody else does."""
    alone = Path(folder) / "alone"
    while times:
        try:
            with hold_lease(open_home(address)) as lease:
                alone.touch(exist_ok=False)
                lease.check()
                alone.unlink()
                times -= 1
        except Conflict:
            time.sleep(0.01)


@pytest.mark.slow
def test_competing_processes_hold_the_lease_one_at_a_time(home: Home, tmp_path: Path) -> None:
    processes: list[Any] = [SPAWN.Process(target=contend, args=(home.url, str(tmp_path), 5)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


HOLDER = """
import sys
from processing.storage.open import open_home
from processing.processes.lease import hold
with hold(open_home(sys.argv[1]), "killed", say=print) as lease:
    print("held", flush=True)
    input()
"""


def test_the_lease_of_a_killed_process_is_taken_over_at_once(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, home.url],
        env=children.child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match="run killed"), hold_lease(home):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
        messages: list[str] = []
        with hold(home, "next", say=messages.append):
            assert document(home)["run"] == "next"
    assert [line for line in messages if "run killed" in line and "took it over" in line]


def test_a_process_id_that_was_reused_does_not_hold_the_lease(home: Home) -> None:
    """This process has the id of the former holder, but another start time."""
    with hold_lease(home):
        last = document(home)
    home.write(KEY, json.dumps(last | {"owner": "x", "run": "old", "processes": another(started="1")}).encode())
    with hold_lease(home):
        pass


class TestAnotherMachine:
    """Neither its processes nor its clock can be observed, only whether it renews the lease."""

    @pytest.fixture
    def foreign(self, home: Home) -> Home:
        with hold_lease(home):
            last = document(home)
        theirs = {"owner": "x", "run": "theirs", "processes": another(host="another"), "seconds": 1.5}
        home.write(KEY, json.dumps(last | theirs | {"renewed": "2099-01-01T00:00:00Z"}).encode())
        return home

    def test_a_lease_that_is_not_renewed_is_taken_over_after_its_duration(self, foreign: Home) -> None:
        began = time.monotonic()
        with hold_lease(foreign) as lease:
            assert time.monotonic() - began >= 1.5
            lease.check()

    def test_a_renewed_lease_is_respected(self, foreign: Home) -> None:
        change(foreign, seconds=600.0)
        timer = threading.Timer(0.7, change, args=(foreign,), kwargs={"renewals": 99})
        timer.start()
        with pytest.raises(Conflict, match="run theirs"), hold_lease(foreign):
            pass
        timer.join()

    def test_a_released_lease_can_be_taken(self, foreign: Home) -> None:
        change(foreign, seconds=600.0)
        timer = threading.Timer(0.7, change, args=(foreign,), kwargs={"owner": None})
        timer.start()
        with hold_lease(foreign):
            timer.join()


def test_the_lease_is_renewed_automatically(home: Home) -> None:
    with hold_lease(home, seconds=0.6):
        before = document(home)["renewals"]
        deadline = time.monotonic() + 60
        while document(home)["renewals"] < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_lost_lease_is_detected_and_not_released(home: Home) -> None:
    with hold_lease(home, "slow") as lease:
        change(home, owner="x", run="quick", processes=another(host="another"))
        with pytest.raises(Conflict, match=r"run slow no longer holds .*: run quick, "):
            lease.check()
    assert (document(home)["owner"], document(home)["run"]) == ("x", "quick")


def test_a_removed_lease_is_detected(home: Home) -> None:
    with hold_lease(home) as lease:
        home.remove("runs/")
        with pytest.raises(Conflict):
            lease.check()


class TestChild:
    """A process that a run has started works under the run's lease, and holds it when the run itself is gone."""

    def test_a_child_shares_the_lease_of_its_run(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        with hold_lease(home, "run") as lease:
            monkeypatch.setenv(*next(iter(lease.environment().items())))
            assert lease.environment().keys() == {TOKEN}
            change(home, processes=another(started="1"))  # the run's own process was killed
            with hold_lease(home, "run") as shared:
                monkeypatch.delenv(TOKEN)
                shared.check()
                assert len(document(home)["processes"]) == 2
                with pytest.raises(Conflict), hold_lease(home, "other"):
                    pass
            assert len(document(home)["processes"]) == 1
            with hold_lease(home, "other"):  # neither runs any more
                pass

    def test_a_child_does_not_begin_if_another_run_has_taken_over(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN, "gone")
        with pytest.raises(Conflict, match="no longer holds"), hold_lease(home, "run"):
            pass


def test_two_processes_of_a_run_can_renew_at_the_same_time(home: Home) -> None:
    with hold_lease(home) as lease:
        other = Lease(home, "r", lease.token, 60.0)
        other.join()
        threads = [threading.Thread(target=each.check) for each in (lease, other) * 5]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert document(home)["renewals"] >= 11


def test_the_error_for_an_unreadable_lease_says_what_to_do(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    assert isinstance(home, LocalHome)
    home.write(KEY, b"{")
    with pytest.raises(Damaged, match=r"runs/lease\.json is damaged.*remove the file"), hold_lease(home):
        pass
