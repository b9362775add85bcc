"""The command as a user meets it: help, errors, exit codes."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.synthesize import synthesize, write

ROOT = Path(__file__).parent.parent

SMALL = ("--set", "MaxIterations=40", "--set", "MinAveragePrecision=0.01")


def fraudline(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRAUDLINE_HOME": str(home or "home"), "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.command", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("command", ["demo", "synthesize", "run", "watch", "serve", "models"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = fraudline(command, "--help")
    assert done.returncode == 0
    assert command == "models" or "Example: fraudline" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["modles"], "models"),
        (["models", "list"], "there is no home"),
        (["models", "rollback"], "there is no home"),
        (["run", "--contract", "handbok"], "handbook"),
        (["run", "--data", "nowhere.csv"], "nowhere.csv"),
        (["run", "--set", "MaxIterations"], "name=value"),
        (["run", "--set", "MaxIteration=3"], "MaxIterations"),
        (["synthesize", "out.xlsx"], "out.xlsx"),
        (["synthesize", "out.csv", "--start", "March"], "2026-03-01"),
    ],
)
def test_wrong_input_is_told_in_one_message_with_exit_code_2(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = fraudline(*arguments, home=tmp_path / "home")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_does_not_fit_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "wrong.parquet"
    pq.write_table(pa.table({"id": [1], "value": [2.0]}), path)
    done = fraudline("run", "--data", str(path), home=tmp_path / "home")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("wrong.parquet", "'transaction_id'", "value", "--contract"))
    assert not list((tmp_path / "home").glob("incoming/*"))


def test_an_empty_incoming_folder_is_told_with_where_to_put_files(tmp_path: Path) -> None:
    done = fraudline("run", home=tmp_path / "home")
    assert done.returncode == 2
    assert str(tmp_path / "home" / "incoming") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.spark
def test_a_run_from_a_file_to_a_promoted_model_and_its_story(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "transactions.csv.gz"
    write(synthesize(date(2026, 3, 1), 45, customers=400, terminals=150, seed=3), file)
    done = fraudline("run", "--data", str(file), *SMALL, "--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert file.exists()  # the user's own file stays
    listed = json.loads(fraudline("models", "list", "--json", home=home).stdout)
    assert [(item["version"], item["status"]) for item in listed] == [(told["version"], "serving")]
    run = home / "runs" / told["run"]
    story = json.loads((run / "outcome.json").read_text())
    assert story["status"] == "Succeeded"
    expected = {"Features", "Train", "Evaluate", "Gate", "Register", "Promote"}
    assert expected <= {name for name, step in story["steps"].items() if step["status"] == "Succeeded"}
    assert (run / "steps/Features/log.txt").read_text()
    assert json.loads((run / "features.json").read_text())["rows_accepted"] > 10_000
    manifest = json.loads(fraudline("models", "show", told["version"], home=home).stdout)["manifest"]
    assert manifest["run"] == told["run"]
    assert manifest["hyperparameters"]["max_iterations"] == 40

    again = fraudline("models", "rollback", home=home)
    assert again.returncode == 2
    assert "nothing to roll back to" in again.stderr
