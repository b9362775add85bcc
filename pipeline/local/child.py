"""A child process that writes a log and never outlives the one who started it for long."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from processing.children import Child

POLL_SECONDS = 0.2


class Stopped(BaseException):
    """Someone asked the run to stop. Not an Exception, so that no step's own handling swallows it."""


def run_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, stopping: Event
) -> int:
    """Run a command to its end and return its exit code (minus the signal's number if one ended it).

    Its output, both streams, is appended to the log as it comes. Ctrl-C, or `stopping` (which raises
    Stopped), ends it and all it has started: asked first, then killed. So does the end of this process.
    One that cannot be started says so in the log, and ends with 127.
    """
    with (
        log.open("ab") as output,
        Child(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    raise Stopped from None


def how_ended(code: int) -> str:
    """An exit code in words."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
