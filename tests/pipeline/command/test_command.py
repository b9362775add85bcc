"""The command as a user meets it: help, errors, exit codes."""

import getpass
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from places import ROOT
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.runs.here import run_pipeline
from processing.errors import BadInput
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write

SMALL = ("--set", "MaxIterations=40", "--set", "MinAveragePrecision=1.0")


def fraudline(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRAUDLINE_HOME": str(home or "home"), "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.command.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def every(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of a command and of all below it."""
    yield names
    for name, below in getattr(command, "commands", {}).items():
        yield from every(below, *names, name)


ROOT_COMMAND = typer.main.get_command(app)


@pytest.mark.parametrize("names", list(every(ROOT_COMMAND)), ids=" ".join)
def test_every_help_has_an_example_that_the_command_takes(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    [example] = re.findall(r"Example: (fraudline .*?) *(?:│|$)", shown.stdout, re.MULTILINE)
    words = shlex.split(example)[1:]
    assert tuple(words[: len(names)]) == names
    command: Any = ROOT_COMMAND
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("", words)  # read as it would be, and not carried out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("fraudline mod", ["models"]), ("fraudline models ro", ["rollback"]), ("fraudline run --fo", ["--force"])],
)
def test_the_shell_completes(typed: str, offered: list[str]) -> None:
    words = {"_FRAUDLINE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = CliRunner().invoke(app, [], prog_name="fraudline", env=words)
    assert done.stdout.split() == offered


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["modles"], "models"),
        (["models", "lst"], "list"),
        (["benchmark", "scorr"], "scorer"),
        (["run", "--contrat", "handbook"], "--contract"),
        (["models", "promote", "v", "--forc"], "--force"),
    ],
)
def test_a_typo_of_a_command_or_an_option_gets_the_right_word(arguments: list[str], meant: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert meant in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "--contract", "handbok"], "did you mean 'handbook'"),
        (["search", "--try", "MaxLeafNode=8"], "did you mean 'MaxLeafNodes'"),
        (["verify", "glue_jb"], "did you mean 'glue_job'"),
    ],
)
def test_a_typo_of_a_value_gets_the_right_word(arguments: list[str], meant: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, arguments, env={"FRAUDLINE_HOME": str(tmp_path / "home")})
    assert isinstance(done.exception, BadInput)
    assert meant in str(done.exception)


def test_there_are_no_colours_where_no_terminal_is() -> None:
    for arguments in ([], ["--help"], ["modles"], ["models", "list"]):
        done = fraudline(*arguments)
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_on_a_terminal_can_be_turned_off(no_color: bool, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "FRAUDLINE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"NO_COLOR": "1"} if no_color else {}
    command = [sys.executable, "-m", "pipeline.command.main", "models", "list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=theirs, timeout=60)
    said = os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert (b"\x1b[31m" in said) is not no_color


def stopped(arguments: list[str], home: Path, when: Callable[[], bool]) -> tuple[int, str]:
    """Start a command, press Ctrl-C once something is so; the exit code and what it said."""
    environment = {**os.environ, "FRAUDLINE_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "pipeline.command.main", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not when() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said


def test_ctrl_c_while_watching_says_what_becomes_of_the_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code, said = stopped(["watch"], home, lambda: (home / "runs/lease.json").exists() and not time.sleep(1.5))
    assert code == 130
    assert "stopped. Files that wait in incoming/ are taken in by the next run." in said
    assert "Traceback" not in said


def test_ctrl_c_in_a_run_leaves_the_files_waiting_and_the_story_told(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "transactions.parquet"
    write(synthesize(date(2026, 3, 1), 2, customers=50, terminals=20, seed=3), file)

    def begun() -> bool:
        return any("Executing" in path.read_text() for path in home.glob("runs/*/steps/Features/../../outcome.json"))

    code, said = stopped(["run", "--data", str(file)], home, begun)
    assert code == 130
    assert "The model that served still does; files not committed wait in incoming/" in said
    assert (home / "incoming/transactions.parquet").exists()
    [story] = [json.loads(path.read_text()) for path in home.glob("runs/*/outcome.json")]
    assert story["status"] == "Stopped"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["models", "list"], "there is no home"),
        (["models", "rollback"], "there is no home"),
        (["drift"], "there is no home"),
        (["run", "--contract", "handbok"], "handbook"),
        (["run", "--data", "nowhere.csv"], "nowhere.csv"),
        (["run", "--set", "MaxIterations"], "name=value"),
        (["synthesize", "out.xlsx"], "out.xlsx"),
        (["synthesize", "out.csv", "--start", "March"], "2026-03-01"),
    ],
)
def test_wrong_input_is_told_in_one_message_with_exit_code_2(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = fraudline(*arguments, home=tmp_path / "home")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_parameter_that_does_not_exist_is_told_when_there_is_something_to_take_in(tmp_path: Path) -> None:
    (tmp_path / "home/incoming").mkdir(parents=True)
    (tmp_path / "home/incoming/rows.csv").write_text("x\n1\n")
    done = fraudline("run", "--set", "MaxIteration=3", home=tmp_path / "home")
    assert done.returncode == 2
    assert "MaxIterations" in done.stderr
    assert "Traceback" not in done.stderr


def test_whether_anything_waits_is_looked_at_before_the_definition_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes seconds: the SDK is imported for it."""

    def build(*_: object) -> None:
        raise AssertionError("the definition was built")

    monkeypatch.setattr("pipeline.runs.here.build", build)
    with pytest.raises(BadInput, match="nothing to take in"):
        run_pipeline(LocalHome(tmp_path / "home"), {}, lambda event: None)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("names", [[], ["glue_job", "iam_roles"]])
def test_what_every_check_of_the_deployed_system_needs_is_told_once(names: list[str], tmp_path: Path) -> None:
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "AWS_EC2_METADATA_DISABLED": "true", **nowhere}
    command = [sys.executable, "-m", "pipeline.command.main", "verify", *names]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("no AWS region is set") == 1
    assert done.stdout == ""


def test_a_check_that_a_signal_ended_does_not_count_as_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.infrastructure import deploy

    monkeypatch.setattr(deploy, "find_target", lambda: deploy.Target("123456789012", "eu-central-1"))
    monkeypatch.setattr(deploy, "deployed", lambda target: {})
    ended = iter([0, -9])
    monkeypatch.setattr(
        "pipeline.command.cloud.subprocess.run", lambda *_: subprocess.CompletedProcess([], next(ended))
    )
    assert CliRunner().invoke(app, ["verify", "glue_job", "iam_roles"]).exit_code == 1


def test_a_file_that_does_not_fit_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "wrong.parquet"
    pq.write_table(pa.table({"id": [1], "value": [2.0]}), path)
    done = fraudline("run", "--data", str(path), home=tmp_path / "home")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("wrong.parquet", "'transaction_id'", "--contract"))
    assert "value" not in done.stderr  # where the header line is missing, it would be a customer's
    assert not list((tmp_path / "home").glob("incoming/*"))


def test_an_empty_incoming_folder_is_told_with_where_to_put_files(tmp_path: Path) -> None:
    done = fraudline("run", home=tmp_path / "home")
    assert done.returncode == 2
    assert str(tmp_path / "home" / "incoming") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.spark
def test_a_run_from_a_file_to_a_model_that_was_forced_and_its_story(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "transactions.csv.gz"
    write(synthesize(date(2026, 3, 1), 45, customers=400, terminals=150, seed=3), file)
    done = fraudline("run", "--data", str(file), *SMALL, "--force", "--json", home=home)
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
    shown = json.loads(fraudline("models", "show", told["version"], home=home).stdout)
    assert Path(unquote(urlsplit(shown["report"]).path)).read_text().startswith("<!DOCTYPE html>")
    manifest = shown["manifest"]
    assert manifest["run"] == told["run"]
    assert manifest["hyperparameters"]["max_iterations"] == 40

    user = getpass.getuser()  # no model reaches a floor of 1: who wanted this one is on record
    assert (told["gate"]["verdict"], told["gate"]["forced_by"]) == ("forced", user)
    [promoted] = json.loads(fraudline("models", "history", "--json", home=home).stdout)
    assert promoted["forced"]
    assert promoted["by"].startswith(f"{user}, by pipeline run")

    again = fraudline("models", "rollback", home=home)
    assert again.returncode == 2
    assert "nothing to roll back to" in again.stderr
