"""Ctrl-C at any moment, even while a command is being imported: one line and exit code 130."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT
from serving_home import serving_home

FRAUDLINE = [sys.executable, "-P", "-c", "from pipeline.command.entry import main; main()"]  # as the installed script
# Presses Ctrl-C when a given module is imported, or when Python starts the program that replaces the command.
PRESSER_MODULE = """
import os, signal, sys

class Presser:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("PRESS_AT"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presser())
if os.environ.get("PRESS_AT") == "the start" and "pipeline.command.entry" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    serving_home(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "at"),
    [
        (["models", "list"], "typer"),
        (["models", "list"], "pipeline.command.main"),
        (["models", "list"], "pipeline.registry.registry"),
        (["run", "--data", "rows.csv"], "pipeline.runs.local_run"),
        (["drift"], "pipeline.evaluation.drift"),
        (["score", "rows.csv"], "the start"),
        (["score", "rows.csv"], "pyarrow"),
        (["score", "rows.csv"], "serving.decision.loaded_model"),
        (["score", "rows.csv"], "serving.files.row_scorer"),
        (["serve"], "the start"),
        (["serve"], "uvicorn"),
        (["serve"], "serving.app"),
    ],
)
def test_ctrl_c_while_a_command_is_imported_exits_with_130(
    words: list[str], at: str, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("transaction_id\n1\n")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/sitecustomize.py").write_text(PRESSER_MODULE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "modules"), str(ROOT)))}
    environment |= {"PRESS_AT": at, "FRAUDLINE_HOME": str(home), "FRAUDLINE_PORT": "0"}
    result = subprocess.run(
        [*FRAUDLINE, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip() == "stopped."
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["score", "rows.csv"], ["models", "list"], ["serve"]], ids=" ".join)
@pytest.mark.parametrize("after", [0.15, 0.3, 0.45, 0.6, 0.9])
def test_ctrl_c_at_any_time_prints_no_traceback(command: list[str], after: float, home: Path, tmp_path: Path) -> None:
    """Press it after a delay; before 0.15 s, Python itself may still be starting."""
    (tmp_path / "rows.csv").write_text("transaction_id\n1\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FRAUDLINE_HOME": str(home), "FRAUDLINE_PORT": "0"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*FRAUDLINE, *command], cwd=tmp_path, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        deadline = time.monotonic() + 20
        while b"main" not in Path(f"/proc/{process.pid}/cmdline").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in stderr
    # The command may have finished, or died of the signal before Python handles it, which a shell reports as 130 too.
    assert process.returncode in (0, 2, 130, -signal.SIGINT)
