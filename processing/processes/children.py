"""Child processes: they run this code, import nothing from the current directory, and end with this process.

A supervisor (`processing.processes.supervisor`) starts each and holds one end of a pipe. The other end closes with this
process, however it ends; then the supervisor ends the child and everything the child has started.
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
    """The command that runs a module like `python -m`, but never one from the current directory."""
    return [sys.executable, "-P", "-m", name, *arguments]


def child_environment(base: Mapping[str, str] = os.environ, /, **changes: str) -> dict[str, str]:
    """An environment for a Python child, based on this process's own by default, in which it finds the same code.

    Neither the child nor any Python that it starts searches the current directory for modules, unless PYTHONPATH names
    it.
    """
    extra = base.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(CODE), *(os.path.abspath(path) for path in extra if path)]  # an empty one means any directory
    return {**base, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", **changes}


class Child(subprocess.Popen[Any]):
    """A command that runs until it exits, `end` is called, its `with` block ends, or this process ends.

    `grace`: seconds between SIGTERM and SIGKILL. Other options are Popen's; standard input is empty. If the command
    cannot be started, the child prints an error and exits with code 127.
    """

    def __init__(self, command: Sequence[str], *, grace: float = GRACE_SECONDS, **options: Any) -> None:
        far, self._lifeline = os.pipe()
        self._grace = grace
        supervised = [sys.executable, "-I", "-S", supervisor.__file__, str(far), str(grace), *command]
        # A separate process group: Ctrl-C reaches only this process, which then ends the child.
        apart: dict[str, Any] = {"stdin": subprocess.DEVNULL, "pass_fds": (far,), "process_group": 0}
        try:
            super().__init__(supervised, **apart | options)
        except BaseException:
            self._cut()
            raise
        finally:
            os.close(far)

    def end(self) -> None:
        """End the command and all it has started, by SIGTERM, then SIGKILL. Returns when they are gone."""
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
    """Run a command to its end; its exit code and output. On timeout ends it and raises TimeoutExpired."""
    with Child(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        output, errors = child.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, child.returncode, output, errors)
