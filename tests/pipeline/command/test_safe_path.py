"""A command started in a folder with files named like modules runs none of them in any of its processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from serving_home import serving_home

FRAUDLINE = [sys.executable, "-P", "-c", "from pipeline.command.main import main; main()"]  # as the installed script
CODE = "import os\nwith open(os.environ['IMPORTED'], 'a') as file:\n    print(__file__, file=file)\n"
NAMES = ("processing", "pipeline", "serving", "triggers", "uvicorn", "fastapi", "numpy", "json", "argparse", "pip")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    serving_home(folder)
    return folder


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with such files."""
    folder = tmp_path / "hostile"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(CODE)
        (folder / name / "__main__.py").write_text(CODE)
    (folder / "rows.csv").write_text("transaction_id\n1\n")
    return folder


def start(folder: Path, home: Path, *words: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAUDLINE_HOME": str(home), "FRAUDLINE_PORT": "0"}
    environment |= {"IMPORTED": str(folder.parent / "imported")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*FRAUDLINE, *words], cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_does_not_import_from_the_working_folder(hostile: Path, home: Path, workers: str) -> None:
    with start(hostile, home, "serve", "--workers", workers) as process:
        assert process.stderr is not None
        greeting = process.stderr.readline()
        assert "Fraudline serves" in greeting
        assert process.stdout is not None
        for _ in range(int(workers)):
            assert '"event": "model_serves"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
    assert not (hostile.parent / "imported").exists()


def test_score_does_not_import_from_the_working_folder(hostile: Path, home: Path) -> None:
    with start(hostile, home, "score", "rows.csv") as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert stderr.startswith("error: ")
    assert "Traceback" not in stderr
    assert not (hostile.parent / "imported").exists()
