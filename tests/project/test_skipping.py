"""The last lines report skipped tests and what they need; where a browser is required, its tests fail."""

import os
import subprocess
import sys
from pathlib import Path

from places import ROOT

HERE = ROOT / "tests"


TESTS = """
import pytest

@pytest.mark.browser
def test_page(chromium): pass

@pytest.mark.browser
def test_form(chromium): pass

@pytest.mark.skipif(True, reason="no file to read")
def test_file(): pass

def test_sum(): assert 1 + 1 == 2
"""


def browser_tests(folder: Path, **variables: str) -> tuple[int, list[str]]:
    """Run some tests without Chromium; returns the exit code and the last lines."""
    (folder / "test_pages.py").write_text(TESTS)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("FRAUDLINE_NEED_BROWSER", "PYTEST_ADDOPTS")
    }
    environment |= {"PATH": str(folder), "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE / "support", ROOT)))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"} | variables
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(folder), "-p", "no:cacheprovider", str(folder)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.returncode, result.stdout.splitlines()[-3:]


def test_the_last_lines_report_skipped_tests(tmp_path: Path) -> None:
    code, lines = browser_tests(tmp_path)
    assert code == 0
    assert lines[:2] == [
        "1 test was skipped in test_pages.py: no file to read",
        "2 browser tests were skipped in test_pages.py: no Chromium: install Debian's package chromium",
    ]


def test_a_browser_test_fails_without_chromium_where_one_is_required(tmp_path: Path) -> None:
    code, lines = browser_tests(tmp_path, FRAUDLINE_NEED_BROWSER="1")
    assert code == 1
    assert "ERROR test_pages.py::test_page - Failed: no Chromium: install Debian's package chromium" in lines


def test_ci_requires_the_browser_and_runs_the_same_script_everywhere() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "export FRAUDLINE_NEED_BROWSER=1" in script
    assert script.index("apt-get update") < script.index("install --quiet --yes --no-install-recommends chromium")
    steps = (ROOT / ".github/workflows/check.yml").read_text()
    assert "run: .ci/run" in steps
