"""A child process that writes a log and never outlives the one who started it for long."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from processing.errors import BadInput

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0


class Stopped(BaseException):
    """Someone asked the run to stop. Not an Exception, so that no step's own handling swallows it."""


def run_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, stopping: Event
) -> int:
    """Run a command to its end and return its exit code (minus the signal's number if one ended it).

    Its output, both streams, is appended to the log as it comes. Ctrl-C, or `stopping` (which raises
    Stopped), ends it and all it has started: asked first, then killed.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # a group of its own, to be ended as a whole and by us
            )
        except OSError as error:
            raise BadInput(f"the command {command[0]!r} cannot be started: {error.strerror}") from None
    try:
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if stopping.is_set():
                    raise Stopped from None
    finally:
        if child.poll() is None:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
