"""Child processes end with their parent, however it ends, and import no code from the current directory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from places import ROOT

from processing.processes import children
from processing.processes.children import Child
from processing.processes.identity import Process

PATIENCE = 60.0


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, long enough for a busy machine."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def program(folder: Path, body: str) -> Path:
    path = folder / f"program{len(list(folder.glob('program*')))}.py"
    path.write_text(dedent(body))
    return path


# A child that starts another. Both write their process ids to files.
FAMILY = """
    import os, subprocess, sys, time
    from pathlib import Path
    folder = Path(sys.argv[0]).parent
    if "second" not in sys.argv:
        subprocess.Popen([sys.executable, sys.argv[0], "second"])
    (folder / ("second.pid" if "second" in sys.argv else "first.pid")).write_text(f"{os.getpid()}\\n")
    time.sleep(600)
"""


def process_ids(folder: Path) -> list[int]:
    files = [folder / f"{name}.pid" for name in ("first", "second")]
    assert until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
    return [int(file.read_text()) for file in files]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_all_descendants_end_when_the_parent_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    child = program(tmp_path, FAMILY)
    # SIGHUP may be ignored where the tests run, as under nohup, and that is inherited.
    parent = f"import signal, sys; signal.signal({int(signal.SIGHUP)}, signal.SIG_DFL)\n"
    parent += f"from processing.processes.children import Child; Child([sys.executable, {str(child)!r}]).wait()"
    environment = children.child_environment()
    with subprocess.Popen([sys.executable, "-c", parent], env=environment) as started:
        pids = process_ids(tmp_path)
        started.send_signal(number)
    assert until(lambda: not any(map(is_running, pids)))


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    stubborn = program(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + dedent(FAMILY))
    with Child([sys.executable, str(stubborn)], grace=0.3):
        pids = process_ids(tmp_path)
    assert not any(map(is_running, pids))


def test_a_child_receives_sigterm_once_and_has_time_to_clean_up(tmp_path: Path) -> None:
    tidy = program(
        tmp_path,
        """
        import os, signal, sys, time
        from pathlib import Path
        done = Path(sys.argv[0]).with_suffix(".done")
        def tidy(*_):
            with done.open("a") as file:
                file.write("signalled ")
                time.sleep(0.5)
                file.write("cleaned ")
            sys.exit(0)
        signal.signal(signal.SIGTERM, tidy)
        Path(sys.argv[0]).with_suffix(".ready").touch()
        time.sleep(600)
        """,
    )
    with Child([sys.executable, str(tidy)]):
        assert until(tidy.with_suffix(".ready").exists)
    assert tidy.with_suffix(".done").read_text() == "signalled cleaned "


def test_processes_left_behind_by_a_command_end_with_it(tmp_path: Path) -> None:
    leaving = program(
        tmp_path,
        """
        import subprocess, sys
        from pathlib import Path
        background = subprocess.Popen(["sleep", "600"])
        Path(sys.argv[0]).with_suffix(".pid").write_text(str(background.pid))
        """,
    )
    with Child([sys.executable, str(leaving)]) as child:
        assert child.wait(PATIENCE) == 0
    assert not is_running(int(leaving.with_suffix(".pid").read_text()))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11),
    ],
)
def test_the_exit_code_is_the_commands_own(body: str, code: int) -> None:
    with Child([sys.executable, "-c", body]) as child:
        assert child.wait(PATIENCE) == code


def test_a_missing_command_is_reported() -> None:
    done = children.run(["no-such-program"], timeout=PATIENCE, env=children.child_environment())
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "error: the command 'no-such-program' cannot be started: No such file or directory\n"


@pytest.mark.slow
def test_a_child_is_ended_at_its_timeout(tmp_path: Path) -> None:
    child = program(tmp_path, FAMILY)
    with pytest.raises(subprocess.TimeoutExpired):
        children.run([sys.executable, str(child)], timeout=3, env=children.child_environment())
    assert not any(map(is_running, process_ids(tmp_path)))


def test_a_child_has_no_input_and_does_not_inherit_the_pipe() -> None:
    body = "import os, sys; print(sys.stdin.read() + ' '.join(sorted(os.listdir('/proc/self/fd'))))"
    done = children.run([sys.executable, "-c", body], timeout=PATIENCE, env=children.child_environment())
    assert done.stdout.split() == ["0", "1", "2", "3"]  # the last one is the folder that is listed


# Where code comes from

HOSTILE = "import os, sys\nopen(os.environ['CAUGHT'], 'a').write(__file__ + '\\n')\n"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a current directory with files named like modules. Returns the file to which they write if they are run.

    PYTHONPATH has an empty entry, as it easily gets one: to Python that is the current directory.
    """
    folder, caught = tmp_path / "hostile", tmp_path / "caught"
    for name in ("processing", "pipeline", "serving", "triggers", "pyspark", "uvicorn"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(HOSTILE)
    for name in ("json", "argparse", "tempfile", "sitecustomize", "numpy"):
        (folder / f"{name}.py").write_text(HOSTILE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CAUGHT", str(caught))
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    return caught


def test_descendants_run_no_code_from_the_current_directory(hostile: Path) -> None:
    body = """
import json, subprocess, sys, processing.errors
print(processing.errors.__file__)
subprocess.run([sys.executable, "-m", "json.tool"], input="{}", text=True, check=True)
"""
    done = children.run([sys.executable, "-c", body], timeout=PATIENCE, env=children.child_environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(ROOT / "processing/errors.py")
    done = children.run(
        children.module_command("processing.synthetic.synthesize"), timeout=PATIENCE, env=children.child_environment()
    )
    assert done.returncode == 0, done.stderr
    assert not hostile.exists()


def test_modules_on_pythonpath_are_found_from_any_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "experiment.py").write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine")
    with Child(
        children.module_command("experiment"),
        cwd="/",
        env=children.child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.communicate(timeout=PATIENCE)[0] == "mine\n"


# Which process


def test_a_process_is_distinguished_from_a_later_one_with_the_same_id() -> None:
    this = Process.current()
    assert this.is_here()
    assert this.is_running()
    assert Process.parse(this.document()) == this
    later = Process.parse(this.document() | {"started": "1"})
    assert later is not None
    assert not later.is_running()
    elsewhere = Process.parse(this.document() | {"host": "another"})
    assert elsewhere is not None
    assert not elsewhere.is_here()
    assert Process.parse({"pid": "x"}) is Process.parse(None) is Process.parse({}) is None


def test_a_zombie_does_not_count_as_running() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        process = Process(Process.current().host, "here", child.pid, started)
        assert process.is_running()
        assert child.stdin is not None
        child.stdin.close()
        assert until(lambda: not process.is_running())
        assert child.returncode is None
