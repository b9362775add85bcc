"""A command that is killed: nothing it started goes on, and the next command puts in order what it left."""

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

import pipeline.runs.here
from pipeline.local.abandoned import REASON, close_abandoned
from pipeline.local.story import Story
from processing.errors import RunFailed
from processing.processes.identity import Process
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write


def outcome(home: Path) -> dict[str, Any]:
    [path] = home.glob("runs/*/outcome.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.spark
def test_a_command_killed_in_the_feature_job_leaves_no_process_and_its_run_is_closed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, scratch, elsewhere = tmp_path / "home", tmp_path / "scratch", tmp_path / "elsewhere"
    for name in ("processing", "pyspark", "json"):  # what is named as a module where the command starts is not run
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
    # Java's own temporary files lie in the scratch folder too.
    assert any(f"-Djava.io.tmpdir={scratch}" in command for command in started.values())
    assert until(lambda: not started.keys() & {pid for pid, _, _ in processes()})

    told = outcome(home)
    assert told["status"] == "Executing"
    assert told["owner"]["pid"] == killed.pid
    # The next run of this process, whose feature job only looks: the home is in order when it begins.
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    lines: list[str] = []

    def look(message: dict[str, Any], log: Any, **_: Any) -> dict[str, str]:
        assert not list(scratch.glob("fraudline-*"))
        assert (home / "incoming/rows.parquet").exists()
        raise RunFailed("seen")

    monkeypatch.setattr(pipeline.runs.here, "_compute_features", look)
    again = pipeline.runs.here.run_pipeline(LocalHome(home), {}, lambda event: None, lines.append)
    assert again.reason == "step Features: seen"
    (home / "runs" / again.run / "outcome.json").unlink()
    ended = outcome(home)
    assert (ended["status"], ended["reason"]) == ("Stopped", REASON)
    assert ended["steps"]["Features"]["status"] == "Stopped"
    assert ended["steps"]["Train"]["status"] == "NotRun"
    assert len([line for line in lines if REASON in line and ended["run"] in line]) == 1


def abandoned(home: LocalHome, run: str, **owner: Any) -> None:
    """The story of a run that goes on, of this process but for what is given."""
    story = Story(home.path(f"runs/{run}"), run, [("Features", "Callback"), ("Train", "Training")])
    story.start("Features")
    story.outcome["owner"] = Process.current().document() | owner if owner else None
    story.write("outcome.json", story.outcome)


def test_only_what_nobody_runs_is_closed(tmp_path: Path) -> None:
    home = LocalHome(tmp_path)
    abandoned(home, "alive", machine="here")
    abandoned(home, "dead", started="1")
    abandoned(home, "elsewhere", host="another")
    abandoned(home, "of-an-earlier-version")
    Story(home.path("runs/ended"), "ended", []).end("Succeeded")
    home.write("runs/damaged/outcome.json", b'{"status": "Exec')
    home.path("runs/in-aws").mkdir()
    told: list[str] = []
    assert close_abandoned(home, told.append) == ["dead"]
    assert any("runs/damaged/outcome.json is damaged" in line for line in told)
    # With the lease, none can go on that is not known to.
    assert close_abandoned(home, told.append, alone=True) == ["elsewhere", "of-an-earlier-version"]
    statuses = {path.parent.name: path.read_text() for path in tmp_path.glob("runs/*/outcome.json")}
    assert json.loads(statuses["alive"])["status"] == "Executing"
    assert json.loads(statuses["ended"])["status"] == "Succeeded"
    assert json.loads(statuses["dead"])["reason"] == REASON
