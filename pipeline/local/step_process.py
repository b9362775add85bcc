"""The process of a step: it writes a log, and ends soon after the process that started it."""

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
    """The run was asked to stop. Not an Exception, so that no step's own error handling swallows it."""


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended.

    code: its exit code, or minus the number of the signal that ended it
    memory: the machine's memory and the least that was free while it ran; None where that is unknown
    """

    code: int
    memory: Memory | None = None

    def __str__(self) -> str:
        if self.code == -signal.SIGKILL:
            least = self.memory
            free = f" (of {least.total / GIB:.1f} GiB, {least.free / GIB:.1f} GiB or less were free)" if least else ""
            return f"was killed (signal 9), probably because memory ran out{free}: {REMEDY}"
        return f"was ended by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"


def run_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, stopping: Event
) -> ProcessEnd:
    """Run a command to its end.

    The log gets its output, both streams, as it comes. Ctrl-C, `stopping` (which raises Stopped) and the end of this
    process end the command and all that it has started: first they are asked to end, then killed. A command that cannot
    be started says so in the log and ends with 127.
    """
    least: Memory | None = None
    with (
        log.open("ab") as output,
        Child(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        while True:
            least = min((sample for sample in (least, memory()) if sample), key=lambda each: each.free, default=None)
            try:
                return ProcessEnd(child.wait(POLL_SECONDS), least)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    raise Stopped from None
