"""Runs that are interrupted: their jobs end, and the end is recorded."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from definition_entries import ECHO, callback, document, script, statuses, training
from places import ROOT

from pipeline.local import LocalExecution, StepEvent

WAITING = """
    import os, sys, time
    from pathlib import Path
    Path(sys.argv[0]).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(60)
"""


def await_pid(path: Path) -> int:
    """The process id in a file, once the file exists."""
    for _ in range(200):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_stopping_a_run_ends_its_job(tmp_path: Path) -> None:
    program = script(tmp_path, WAITING)
    definition = document(training("Train", program, tmp_path / "out"), callback("Last"))
    execution = LocalExecution(definition, {}, tmp_path / "runs/r1", "r1", ECHO)

    def stop() -> None:
        await_pid(program.with_suffix(".pid"))
        execution.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = execution.execute()
    thread.join()
    assert outcome.status == "Stopped"
    assert statuses(outcome) == {"Train": "Stopped", "Last": "NotRun"}
    assert is_gone(await_pid(program.with_suffix(".pid")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_termination_leave_no_child_process(tmp_path: Path, number: signal.Signals) -> None:
    program = script(tmp_path, WAITING)
    definition = tmp_path / "definition.json"
    definition.write_text(json.dumps(document(training("Train", program, tmp_path / "out"))))
    parent = f"""
import json
from pathlib import Path
from pipeline.local import Bindings, LocalExecution
definition = json.loads(Path({str(definition)!r}).read_text())
LocalExecution(definition, {{}}, Path({str(tmp_path / "r1")!r}), "r1", Bindings()).execute()
"""
    child = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stderr=subprocess.DEVNULL)
    job = await_pid(program.with_suffix(".pid"))
    child.send_signal(number)
    assert child.wait(20) != 0
    assert is_gone(job)
    outcome = json.loads((tmp_path / "r1/outcome.json").read_text())
    assert (outcome["status"], outcome["steps"]["Train"]["status"]) == ("Stopped", "Stopped")


def test_an_interruption_is_recorded_and_propagated(tmp_path: Path) -> None:
    def interrupt(event: StepEvent) -> None:
        raise KeyboardInterrupt

    execution = LocalExecution(document(callback("A"), callback("B")), {}, tmp_path / "r1", "r1", ECHO)
    with pytest.raises(KeyboardInterrupt):
        execution.execute(interrupt)
    outcome = json.loads((tmp_path / "r1/outcome.json").read_text())
    assert outcome["status"] == "Stopped"
    assert [step["status"] for step in outcome["steps"].values()] == ["Stopped", "NotRun"]
