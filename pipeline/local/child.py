"""A child process that writes a log and never outlives the one who started it for long."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from processing.processes.children import Child
from processing.processes.memory import GIB, REMEDY, Memory, memory

POLL_SECONDS = 0.2


class Stopped(BaseException):
    """Someone asked the run to stop. Not an Exception, so that no step's own handling swallows it."""


@dataclass(frozen=True)
class Ended:
    """How a child process ended.

    code: its exit code, minus the signal's number if one ended it; memory: what there was in all while it ran, and the
    least that was free; None where that cannot be known
    """

    code: int
    memory: Memory | None = None

    def __str__(self) -> str:
        if self.code == -signal.SIGKILL:
            had = self.memory
            room = f" ({had.total / GIB:.1f} GiB in all, {had.free / GIB:.1f} GiB or less were free)" if had else ""
            return f"was killed (signal 9), probably because memory ran out{room}: {REMEDY}"
        return f"was ended by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"


def run_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, stopping: Event
) -> Ended:
    """Run a command to its end.

    Its output, both streams, is appended to the log as it comes. Ctrl-C, or `stopping` (which raises
    Stopped), ends it and all it has started: asked first, then killed. So does the end of this process.
    One that cannot be started says so in the log, and ends with 127.
    """
    least: Memory | None = None
    with (
        log.open("ab") as output,
        Child(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        while True:
            least = min((found for found in (least, memory()) if found), key=lambda found: found.free, default=None)
            try:
                return Ended(child.wait(POLL_SECONDS), least)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    raise Stopped from None
