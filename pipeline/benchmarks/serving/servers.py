"""Servers to be measured, as processes, and the processor time that they take."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from processing.errors import RunFailed
from processing.processes.children import Child, child_environment

START_SECONDS = 180.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A server: how it is started ({port} stands for its port, in its variables too), and where and how it is asked.

    `body` is the kind of its requests, see `pipeline.benchmarks.serving.home.bodies`.
    """

    name: str
    command: list[str]
    path: str
    body: str
    ready: str
    variables: dict[str, str] = field(default_factory=dict)
    most: int = 100_000  # requests in one measurement
    most_callers: int = 64


@dataclass(frozen=True)
class Running:
    """A server that answers on a port; `pid` is the process that all of its processes are below."""

    server: Server
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """The processor time of the process and of all below it, also of those that ended."""
        ticks = 0
        for pid in self._processes():
            with suppress(OSError):  # it ended
                ticks += sum(int(value) for value in _stat(pid)[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """The most memory that the process and those below it had, each at its own time, MiB."""
        total = 0
        for pid in self._processes():
            with suppress(OSError):  # it ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return total / 1024

    def _processes(self) -> set[int]:
        """The process, and all below it."""
        parents = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):  # it ended
                    parents[int(folder.name)] = int(_stat(int(folder.name))[1])
        ours = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return ours


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on: parent, ..., times of its own and of its ended children."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextmanager
def running(server: Server, folder: Path) -> Iterator[Running]:
    """A server for the time of a `with` block; its output goes to a file in the folder. Raises RunFailed."""
    port, log = _free_port(), folder / f"{server.name.replace(' ', '-')}.log"
    told = {name: value.format(port=port) for name, value in server.variables.items()}
    # Some servers search their current directory for code, and leave files in the temporary one.
    variables = child_environment(**told, PORT=str(port), TMPDIR=str(folder))
    command = [part.format(port=port) for part in server.command]
    with (
        open(log, "wb") as out,
        Child(command, grace=STOP_SECONDS, cwd=folder, env=variables, stdout=out, stderr=out) as process,
    ):
        _await(process, server, port, log)
        yield Running(server, port, process.pid)


def _await(process: Child, server: Server, port: int, log: Path) -> None:
    from http.client import HTTPConnection, HTTPException

    ends = time.monotonic() + START_SECONDS
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", server.ready)
            if connection.getresponse().status < 500:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        if process.poll() is not None or time.monotonic() > ends:
            said = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise RunFailed(f"the server {server.name!r} does not start; its log {log} ends with: " + " | ".join(said))
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
