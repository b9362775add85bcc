"""The identity of a process, which no later process with the same number shares."""

import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROC = Path("/proc")
ENDED = ("Z", "X")  # a zombie only waits for its parent to read its exit code


@dataclass(frozen=True)
class Process:
    """A process on some machine.

    host: where the number is unique: one boot of a machine, or one container
    machine: the machine's name, for people
    started: when the process started, in the host's own notation
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> "Process":
        """This process."""
        return cls(_host(), platform.node(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def parse(cls, document: Any) -> "Process | None":
        """The process of a document that `document()` made; None for anything else."""
        try:
            return cls(str(document["host"]), str(document["machine"]), int(document["pid"]), str(document["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    def document(self) -> dict[str, Any]:
        """The process as a JSON object."""
        return asdict(self)

    def is_here(self) -> bool:
        """Whether it is a process of this host, so that `is_running` can tell."""
        return self.host == _host()

    def is_running(self) -> bool:
        """Whether this process of this host is still running."""
        return _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} of {self.machine}"


@cache
def _host() -> str:
    """An id that differs after a restart and in another container, where process numbers mean other processes."""
    try:
        start = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:  # not Linux
        return platform.node()


def _started(pid: int) -> str | None:
    """When a process of this host started; None if there is none."""
    if sys.platform == "linux":
        try:
            fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in ENDED else fields[19]
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = done.stdout.strip().partition(" ")
    return None if not state or state[0] in ENDED else started.strip()
