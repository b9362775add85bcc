"""Processes that this one starts: they run this code, nothing of the current directory, and end with this process.

Each is started by a supervisor (`processing.processes.supervisor`), which holds one end of a pipe. The other end goes
with this process, however it ends, and then the supervisor ends the child and all it has started.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from processing.processes import supervisor

CODE = Path(__file__).parents[2]  # the folder of the packages
GRACE_SECONDS = 10.0
ENDED_SECONDS = supervisor.KILLED_SECONDS + 5.0


def module_command(name: str, *arguments: str) -> list[str]:
    """The command that runs a module as `python -m` does, but never one of the current directory."""
    return [sys.executable, "-P", "-m", name, *arguments]


def child_environment(given: Mapping[str, str] = os.environ, /, **changes: str) -> dict[str, str]:
    """An environment for a Python child, this process's own by default: the same code is found, wherever it starts.

    The current directory is not searched for modules, neither by the child nor by any Python it starts in turn, unless
    PYTHONPATH names it.
    """
    further = given.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(CODE), *(os.path.abspath(place) for place in further if place)]  # an empty one means any directory
    return {**given, "PYTHONPATH": os.pathsep.join(places), "PYTHONSAFEPATH": "1", **changes}


class Child(subprocess.Popen[Any]):
    """A command that runs until it ends, `end` is called, its `with` block is left, or this process ends.

    `grace`: seconds between being told to end and being killed. Other options are Popen's; standard input is empty.
    A command that cannot be started says so on standard error and ends with exit code 127.
    """

    def __init__(self, command: Sequence[str], *, grace: float = GRACE_SECONDS, **options: Any) -> None:
        far, self._lifeline = os.pipe()
        self._grace = grace
        supervised = [sys.executable, "-I", "-S", supervisor.__file__, str(far), str(grace), *command]
        # A group of its own, so that Ctrl-C reaches this process alone, which then ends the child.
        apart: dict[str, Any] = {"stdin": subprocess.DEVNULL, "pass_fds": (far,), "process_group": 0}
        try:
            super().__init__(supervised, **apart | options)
        except BaseException:
            self._cut()
            raise
        finally:
            os.close(far)

    def end(self) -> None:
        """End the command and all it has started: told first, then killed. Returns when they are gone."""
        self._cut()
        try:
            self.wait(self._grace + ENDED_SECONDS)
        except subprocess.TimeoutExpired:  # the supervisor itself was stopped
            self.kill()
            self.wait()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        super().__exit__(kind, value, traceback)

    def _cut(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def run(command: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit code and what it printed. Raises TimeoutExpired, once it was ended."""
    with Child(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        printed, said = child.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, child.returncode, printed, said)
