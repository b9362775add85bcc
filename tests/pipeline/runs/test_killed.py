"""A command that is killed: its processes end, and the next command cleans up after it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from process_tree import below, processes, until

import pipeline.runs.local_run
from pipeline.local.abandoned_runs import REASON, close_abandoned
from pipeline.local.run_record import RunRecord
from processing.errors import RunFailed
from processing.processes.identity import Process
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write


def outcome(home: Path) -> dict[str, Any]:
    [path] = home.glob("runs/*/outcome.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.spark
def test_the_processes_of_a_killed_command_end_and_the_next_command_closes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, scratch, elsewhere = tmp_path / "home", tmp_path / "scratch", tmp_path / "elsewhere"
    for name in ("processing", "pyspark", "json"):  # modules in the working folder must not shadow ours
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("import os; os._exit(66)")
    scratch.mkdir()
    write(synthesize(date(2026, 3, 1), 20, customers=300, terminals=100, seed=3), tmp_path / "rows.parquet")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "FRAUDLINE_HOME": str(home)}
    command = [sys.executable, "-P", "-c", "from pipeline.command.main import main; main()"]
    with subprocess.Popen(
        [*command, "run", "--data", str(tmp_path / "rows.parquet")],
        cwd=elsewhere,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as killed:

        def in_spark() -> bool:
            return any("Spark" in log.read_text() for log in home.glob("runs/*/steps/Features/log.txt"))

        assert until(in_spark)
        started = below(killed.pid)
        killed.send_signal(signal.SIGKILL)
    # Java's temporary files are in the scratch folder too.
    assert any(f"-Djava.io.tmpdir={scratch}" in command for command in started.values())
    assert until(lambda: not started.keys() & {pid for pid, _, _ in processes()})

    abandoned = outcome(home)
    assert abandoned["status"] == "Executing"
    assert abandoned["owner"]["pid"] == killed.pid
    # The next run's feature job only checks that the home has been cleaned up before it starts.
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    lines: list[str] = []

    def check(message: dict[str, Any], log: Any, **_: Any) -> dict[str, str]:
        assert not list(scratch.glob("fraudline-*"))
        assert (home / "incoming/rows.parquet").exists()
        raise RunFailed("checked")

    monkeypatch.setattr(pipeline.runs.local_run, "_compute_features", check)
    again = pipeline.runs.local_run.run_pipeline(LocalHome(home), {}, lambda event: None, lines.append)
    assert again.reason == "step Features: checked"
    (home / "runs" / again.run / "outcome.json").unlink()
    ended = outcome(home)
    assert (ended["status"], ended["reason"]) == ("Stopped", REASON)
    assert ended["steps"]["Features"]["status"] == "Stopped"
    assert ended["steps"]["Train"]["status"] == "NotRun"
    assert len([line for line in lines if REASON in line and ended["run"] in line]) == 1


def write_abandoned(home: LocalHome, run: str, **owner: Any) -> None:
    """Write the record of a run in progress, owned by this process with `owner` changed; without `owner`, by nobody."""
    record = RunRecord(home.path(f"runs/{run}"), run, [("Features", "Callback"), ("Train", "Training")])
    record.start("Features")
    record.outcome["owner"] = Process.current().document() | owner if owner else None
    record.write("outcome.json", record.outcome)


def test_only_runs_without_a_living_process_are_closed(tmp_path: Path) -> None:
    home = LocalHome(tmp_path)
    write_abandoned(home, "alive", machine="here")
    write_abandoned(home, "dead", started="1")
    write_abandoned(home, "elsewhere", host="another")
    write_abandoned(home, "of-an-earlier-version")
    RunRecord(home.path("runs/ended"), "ended", []).end("Succeeded")
    home.write("runs/damaged/outcome.json", b'{"status": "Exec')
    home.path("runs/in-aws").mkdir()
    lines: list[str] = []
    assert close_abandoned(home, lines.append) == ["dead"]
    assert any("runs/damaged/outcome.json is damaged" in line for line in lines)
    # With the lease, no run can be in progress anywhere else.
    assert close_abandoned(home, lines.append, alone=True) == ["elsewhere", "of-an-earlier-version"]
    statuses = {path.parent.name: path.read_text() for path in tmp_path.glob("runs/*/outcome.json")}
    assert json.loads(statuses["alive"])["status"] == "Executing"
    assert json.loads(statuses["ended"])["status"] == "Succeeded"
    assert json.loads(statuses["dead"])["reason"] == REASON
