"""What a run says when memory ran out: that it did, how much there was, and what to do."""

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from process_tree import below, until

from pipeline.local.step_process import ProcessEnd, run_process
from processing.processes.memory import GIB, Memory, memory
from processing.synthetic.synthesize import synthesize, write


def machine(folder: Path, **files: str) -> Path:
    """A machine as its kernel tells of it."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


INFO = "MemTotal:       8388608 kB\nMemFree:         102400 kB\nMemAvailable:   4194304 kB\nHugePages_Total:       0\n"


def test_the_machines_memory_is_what_is_available(tmp_path: Path) -> None:
    assert memory(machine(tmp_path, proc__meminfo=INFO)) == Memory(8 * GIB, 4 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_no_more_than_its_limit(version: int, tmp_path: Path) -> None:
    machine(tmp_path, proc__meminfo=INFO)
    names = (
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
        if version == 1
        else ("memory.max", "memory.current")
    )
    for name, size in zip(names, (2 * GIB, GIB // 2), strict=True):
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{size}\n")
    assert memory(tmp_path) == Memory(2 * GIB, 2 * GIB - GIB // 2)
    path = tmp_path / "sys/fs/cgroup" / names[0]
    path.write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    assert memory(tmp_path) == Memory(8 * GIB, 4 * GIB)


def test_where_it_cannot_be_known_nothing_is_claimed(tmp_path: Path) -> None:
    assert memory(tmp_path) is None
    assert memory(machine(tmp_path, proc__meminfo="nonsense")) is None
    assert str(ProcessEnd(-9)).startswith(
        "was killed (signal 9), probably because memory ran out: close other programs"
    )


@given(st.integers(-64, 255).filter(lambda code: code not in (0, -9)))
def test_only_a_kill_is_taken_for_want_of_memory(code: int) -> None:
    assert "memory" not in str(ProcessEnd(code, Memory(GIB, 0)))


def test_a_child_that_is_killed_is_told_with_the_memory_there_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    ended = run_process(command, tmp_path, os.environ, tmp_path / "log", Event())
    assert ended.code == -9
    assert ended.memory is not None
    now = memory()
    assert now is not None
    assert ended.memory.total == now.total
    said = str(ended)
    assert f"{ended.memory.total / GIB:.1f} GiB" in said
    assert "close other programs" in said


def killing(which: str, when: str, tmp_path: Path) -> str:
    """What a run says of which the kernel kills a process as soon as its features' log says something."""
    write(synthesize(date(2026, 3, 1), 20, customers=300, terminals=100, seed=3), tmp_path / "rows.parquet")
    home = tmp_path / "home"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAUDLINE_HOME": str(home), "COLUMNS": "400"}
    command = [sys.executable, "-m", "pipeline.command.main", "run", "--data", str(tmp_path / "rows.parquet")]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as run:

        def started() -> bool:
            return any(when in log.read_text() for log in home.glob("runs/*/steps/Features/log.txt"))

        assert until(started)
        [pid] = [pid for pid, words in below(run.pid).items() if words.startswith(which) or f"/{which}\0" in words]
        os.kill(pid, signal.SIGKILL)
        _, said = run.communicate(timeout=120)
    assert run.returncode == 1
    assert (home / "incoming/rows.parquet").exists() or list(home.glob("claimed/*/rows.parquet"))
    return said


@pytest.mark.spark
@pytest.mark.parametrize("when", ["WARN", " started; "])
def test_a_run_whose_java_process_is_killed_says_so(when: str, tmp_path: Path) -> None:
    said = killing("java", when, tmp_path)
    assert "error: Features: Spark's Java process is gone, probably killed because memory ran out" in said
    assert "GiB" in said
    assert "fewer files at a time" in said


OUT_OF_MEMORY = """
import sys
from pathlib import Path
from processing.job.spark import memory_trouble, start_spark
try:
    start_spark(Path(sys.argv[1]), cores="1")._jvm.java.util.ArrayList(2**31 - 1)
except Exception as error:
    print(memory_trouble(error))
"""


@pytest.mark.spark
def test_what_java_says_of_memory_is_told_with_the_setting_that_gives_more(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAUDLINE_SPARK_MEMORY": "600m"}
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert "its Java process may use 600m on this machine. Set FRAUDLINE_SPARK_MEMORY=4g" in done.stdout, done.stderr


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    from processing.job.spark import memory_trouble

    for error in (ValueError("x"), ConnectionResetError("of S3"), KeyError("memory")):
        with pytest.raises(type(error)) as raised:
            raise error
        assert memory_trouble(raised.value) == ""
