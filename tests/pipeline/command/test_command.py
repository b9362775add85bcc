"""The command as users see it: help, errors, exit codes."""

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
from pipeline.runs.local_run import run_pipeline
from processing.errors import BadInput
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write

SMALL = ("--set", "MaxIterations=40", "--set", "MinAveragePrecision=1.0")


def fraudline(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRAUDLINE_HOME": str(home or "home"), "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.command.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def names_of(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of a command and of all its subcommands."""
    yield names
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from names_of(subcommand, *names, name)


ROOT_COMMAND = typer.main.get_command(app)


@pytest.mark.parametrize("names", list(names_of(ROOT_COMMAND)), ids=" ".join)
def test_every_help_text_has_an_example_that_the_command_accepts(names: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    [example] = re.findall(r"Example: (fraudline .*?) *(?:│|$)", result.stdout, re.MULTILINE)
    words = shlex.split(example)[1:]
    assert tuple(words[: len(names)]) == names
    command: Any = ROOT_COMMAND
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("", words)  # parsed, not run


@pytest.mark.parametrize(
    ("line", "completions"),
    [("fraudline mod", ["models"]), ("fraudline models ro", ["rollback"]), ("fraudline run --fo", ["--force"])],
)
def test_the_shell_completes_commands_and_options(line: str, completions: list[str]) -> None:
    words = {"_FRAUDLINE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    result = CliRunner().invoke(app, [], prog_name="fraudline", env=words)
    assert result.stdout.split() == completions


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["modles"], "models"),
        (["models", "lst"], "list"),
        (["benchmark", "scorr"], "scorer"),
        (["run", "--contrat", "handbook"], "--contract"),
        (["models", "promote", "v", "--forc"], "--force"),
    ],
)
def test_a_typo_in_a_command_or_an_option_gets_a_suggestion(arguments: list[str], suggestion: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert suggestion in result.stderr


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["run", "--contract", "handbok"], "did you mean 'handbook'"),
        (["search", "--try", "MaxLeafNode=8"], "did you mean 'MaxLeafNodes'"),
        (["verify", "glue_jb"], "did you mean 'glue_job'"),
    ],
)
def test_a_typo_in_a_value_gets_a_suggestion(arguments: list[str], suggestion: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments, env={"FRAUDLINE_HOME": str(tmp_path / "home")})
    assert isinstance(result.exception, BadInput)
    assert suggestion in str(result.exception)


def test_output_has_no_colours_without_a_terminal() -> None:
    for arguments in ([], ["--help"], ["modles"], ["models", "list"]):
        result = fraudline(*arguments)
        assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_on_a_terminal_can_be_turned_off(no_color: bool, tmp_path: Path) -> None:
    terminal, child_end = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "FRAUDLINE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"NO_COLOR": "1"} if no_color else {}
    command = [sys.executable, "-m", "pipeline.command.main", "models", "list"]
    result = subprocess.run(command, cwd=ROOT, env=environment, stderr=child_end, timeout=60)
    output = os.read(terminal, 4096)
    os.close(child_end)
    os.close(terminal)
    assert result.returncode == 2
    assert (b"\x1b[31m" in output) is not no_color


def interrupt(arguments: list[str], home: Path, when: Callable[[], bool]) -> tuple[int, str]:
    """Start a command and press Ctrl-C once a condition holds; returns the exit code and standard error."""
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
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, stderr


def test_ctrl_c_while_watching_explains_what_happens_to_the_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code, stderr = interrupt(["watch"], home, lambda: (home / "runs/lease.json").exists() and not time.sleep(1.5))
    assert code == 130
    assert "stopped. The next run reads the files that wait in incoming/." in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_ctrl_c_during_a_run_keeps_the_files_waiting_and_records_the_run(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "transactions.parquet"
    write(synthesize(date(2026, 3, 1), 2, customers=50, terminals=20, seed=3), file)

    def executing() -> bool:
        return any("Executing" in path.read_text() for path in home.glob("runs/*/steps/Features/../../outcome.json"))

    code, stderr = interrupt(["run", "--data", str(file)], home, executing)
    assert code == 130
    assert "The serving model has not changed; uncommitted files wait in incoming/" in stderr
    assert (home / "incoming/transactions.parquet").exists()
    [outcome] = [json.loads(path.read_text()) for path in home.glob("runs/*/outcome.json")]
    assert outcome["status"] == "Stopped"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_bad_input_gets_one_message_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = fraudline(*arguments, home=tmp_path / "home")
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_an_unknown_parameter_is_reported_when_files_are_waiting(tmp_path: Path) -> None:
    (tmp_path / "home/incoming").mkdir(parents=True)
    (tmp_path / "home/incoming/rows.csv").write_text("x\n1\n")
    result = fraudline("run", "--set", "MaxIteration=3", home=tmp_path / "home")
    assert result.returncode == 2
    assert "MaxIterations" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_without_files_is_refused_before_the_definition_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building it takes seconds, since it imports the SDK."""

    def build(*_: object) -> None:
        raise AssertionError("the definition was built")

    monkeypatch.setattr("pipeline.runs.local_run.build_definition", build)
    with pytest.raises(BadInput, match="there are no files to read"):
        run_pipeline(LocalHome(tmp_path / "home"), {}, lambda event: None)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("names", [[], ["glue_job", "iam_roles"]])
def test_verify_reports_a_missing_region_once_for_all_checks(names: list[str], tmp_path: Path) -> None:
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "AWS_EC2_METADATA_DISABLED": "true", **nowhere}
    command = [sys.executable, "-m", "pipeline.command.main", "verify", *names]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.count("no AWS region is set") == 1
    assert result.stdout == ""


def test_verify_fails_if_one_of_its_checks_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.infrastructure import target
    from pipeline.infrastructure.verify import run_check

    monkeypatch.setattr(target, "find_target", lambda: target.Target("123456789012", "eu-central-1"))
    monkeypatch.setattr(target, "deployed_outputs", lambda target: {})
    codes = {"glue_job": 0, "iam_roles": 1}
    monkeypatch.setattr(run_check, "run_check", lambda name, outputs: codes[name])
    assert CliRunner().invoke(app, ["verify", "glue_job", "iam_roles"]).exit_code == 1
    assert CliRunner().invoke(app, ["verify", "glue_job"]).exit_code == 0


def test_a_check_that_is_interrupted_does_not_count_as_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.infrastructure.verify import glue_job
    from pipeline.infrastructure.verify.run_check import run_check

    def interrupted(system: Any) -> None:
        system.expect("the job exists", True)
        raise KeyboardInterrupt

    monkeypatch.setattr(glue_job, "check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_check("glue_job", outputs={"HomeUrl": "s3://bucket"})
    assert "the job exists" in capsys.readouterr().out  # what was checked until then is printed


def test_an_unexpected_aws_response_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.infrastructure.verify import glue_job
    from pipeline.infrastructure.verify.run_check import run_check

    monkeypatch.setattr(glue_job, "check", lambda system: {}["Job"])
    assert run_check("glue_job", outputs={"HomeUrl": "s3://bucket"}) == 1
    assert "KeyError: 'Job'" in capsys.readouterr().out


def test_a_file_that_does_not_match_the_contract_is_reported_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "wrong.parquet"
    pq.write_table(pa.table({"id": [1], "value": [2.0]}), path)
    result = fraudline("run", "--data", str(path), home=tmp_path / "home")
    assert result.returncode == 2
    assert all(word in result.stderr for word in ("wrong.parquet", "'transaction_id'", "--contract"))
    assert "value" not in result.stderr  # in a file without a header, this would be card data
    assert not list((tmp_path / "home").glob("incoming/*"))


def test_an_empty_incoming_folder_is_reported_with_where_to_put_files(tmp_path: Path) -> None:
    result = fraudline("run", home=tmp_path / "home")
    assert result.returncode == 2
    assert str(tmp_path / "home" / "incoming") in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.spark
def test_a_forced_run_turns_a_file_into_a_serving_model_and_records_who_forced_it(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "transactions.csv.gz"
    write(synthesize(date(2026, 3, 1), 45, customers=400, terminals=150, seed=3), file)
    process = fraudline("run", "--data", str(file), *SMALL, "--force", "--json", home=home)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert file.exists()  # the user's own file stays
    versions = json.loads(fraudline("models", "list", "--json", home=home).stdout)
    assert [(item["version"], item["status"]) for item in versions] == [(result["version"], "serving")]
    run = home / "runs" / result["run"]
    outcome = json.loads((run / "outcome.json").read_text())
    assert outcome["status"] == "Succeeded"
    expected = {"Features", "Train", "Evaluate", "Gate", "Register", "Promote"}
    assert expected <= {name for name, step in outcome["steps"].items() if step["status"] == "Succeeded"}
    assert (run / "steps/Features/log.txt").read_text()
    assert json.loads((run / "features.json").read_text())["rows_accepted"] > 10_000
    details = json.loads(fraudline("models", "show", result["version"], home=home).stdout)
    assert Path(unquote(urlsplit(details["report"]).path)).read_text().startswith("<!DOCTYPE html>")
    manifest = details["manifest"]
    assert manifest["run"] == result["run"]
    assert manifest["hyperparameters"]["max_iterations"] == 40

    user = getpass.getuser()  # no model reaches a floor of 1, so this one had to be forced
    assert (result["gate"]["verdict"], result["gate"]["forced_by"]) == ("forced", user)
    [promoted] = json.loads(fraudline("models", "history", "--json", home=home).stdout)
    assert promoted["forced"]
    assert promoted["by"].startswith(f"{user}, by pipeline run")

    again = fraudline("models", "rollback", home=home)
    assert again.returncode == 2
    assert "nothing to roll back to" in again.stderr
