"""Out of memory: the error says so, how much there was, and what to do."""

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
    """A root folder with the files in which a kernel reports its memory."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


INFO = "MemTotal:       8388608 kB\nMemFree:         102400 kB\nMemAvailable:   4194304 kB\nHugePages_Total:       0\n"


def test_memory_is_the_machines_total_and_available_memory(tmp_path: Path) -> None:
    assert memory(machine(tmp_path, proc__meminfo=INFO)) == Memory(8 * GIB, 4 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_memory_is_at_most_its_limit(version: int, tmp_path: Path) -> None:
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


def test_unknown_memory_is_none_and_the_message_gives_no_size(tmp_path: Path) -> None:
    assert memory(tmp_path) is None
    assert memory(machine(tmp_path, proc__meminfo="nonsense")) is None
    assert str(ProcessEnd(-9)).startswith(
        "was killed (signal 9), probably because memory ran out: close other programs"
    )


@given(st.integers(-64, 255).filter(lambda code: code not in (0, -9)))
def test_only_sigkill_is_attributed_to_memory(code: int) -> None:
    assert "memory" not in str(ProcessEnd(code, Memory(GIB, 0)))


def test_the_message_for_a_killed_child_names_the_memory_of_the_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    ended = run_process(command, tmp_path, os.environ, tmp_path / "log", Event())
    assert ended.code == -9
    assert ended.memory is not None
    now = memory()
    assert now is not None
    assert ended.memory.total == now.total
    output = str(ended)
    assert f"{ended.memory.total / GIB:.1f} GiB" in output
    assert "close other programs" in output


def run_with_a_kill(which: str, when: str, tmp_path: Path) -> str:
    """The error output of a run, one process of which is killed once its log contains `when`."""
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
        _, output = run.communicate(timeout=120)
    assert run.returncode == 1
    assert (home / "incoming/rows.parquet").exists() or list(home.glob("claimed/*/rows.parquet"))
    return output


@pytest.mark.spark
@pytest.mark.parametrize("when", ["WARN", " started; "])
def test_a_run_reports_that_its_java_process_was_killed(when: str, tmp_path: Path) -> None:
    output = run_with_a_kill("java", when, tmp_path)
    assert "error: Features: Spark's Java process is gone, probably killed because memory ran out" in output
    assert "GiB" in output
    assert "fewer files at a time" in output


KILLED_WHILE_CONNECTING = """
import os, signal, sys
from pathlib import Path
from threading import Timer
from process_tree import below
import pyspark.java_gateway
from processing.job.spark import memory_trouble, start_spark

java_import = pyspark.java_gateway.java_import

def kill_java_during(jvm, name):  # not the first, which fails as a lost connection
    for pid in below(os.getpid()) if name == "scala.Tuple2" else []:
        os.kill(pid, signal.SIGSTOP)  # it accepts the call, and does not answer
        Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    java_import(jvm, name)

pyspark.java_gateway.java_import = kill_java_during
try:
    start_spark(Path(sys.argv[1]), cores="1")
except Exception as error:
    print(memory_trouble(error))
"""


@pytest.mark.spark
def test_a_java_process_killed_while_the_session_connects_is_reported_as_gone(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])}
    command = [sys.executable, "-c", KILLED_WHILE_CONNECTING, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert "Spark's Java process is gone" in done.stdout, done.stderr


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
def test_an_out_of_memory_error_of_java_names_the_setting_that_gives_more(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAUDLINE_SPARK_MEMORY": "600m"}
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert "its Java process may use 600m on this machine. Set FRAUDLINE_SPARK_MEMORY=4g" in done.stdout, done.stderr


def test_other_errors_are_not_attributed_to_memory() -> None:
    from processing.job.spark import memory_trouble

    for error in (ValueError("x"), ConnectionResetError("of S3"), KeyError("memory")):
        with pytest.raises(type(error)) as raised:
            raise error
        assert memory_trouble(raised.value) == ""
