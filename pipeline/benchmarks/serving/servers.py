"""Starts the servers to measure as processes, and reads their CPU time and memory."""

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
    """A server: how to start it and where to send requests.

    command, variables: {port} in them is replaced by the server's port
    path, body: of its requests; body is the kind, see `pipeline.benchmarks.serving.subject.bodies`
    ready: the path that answers once the server is ready
    max_requests: in one measurement
    """

    name: str
    command: list[str]
    path: str
    body: str
    ready: str
    variables: dict[str, str] = field(default_factory=dict)
    max_requests: int = 100_000
    max_callers: int = 64


@dataclass(frozen=True)
class Running:
    """A server that answers on a port; `pid` is its root process."""

    server: Server
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """The CPU time of the process and its descendants, including those that have ended."""
        ticks = 0
        for pid in self._processes():
            with suppress(OSError):  # it ended
                ticks += sum(int(value) for value in _stat(pid)[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """The peak memory of the process and its descendants in MiB: the sum of each process's own peak."""
        total = 0
        for pid in self._processes():
            with suppress(OSError):  # it ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return total / 1024

    def _processes(self) -> set[int]:
        """The process and its descendants."""
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
    """The fields of /proc/PID/stat from the state on: parent, ..., CPU times of the process and its ended children."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextmanager
def running(server: Server, folder: Path) -> Iterator[Running]:
    """A running server, for a `with` block; its output goes to a file in the folder. Raises RunFailed."""
    port, log = _free_port(), folder / f"{server.name.replace(' ', '-')}.log"
    filled = {name: value.format(port=port) for name, value in server.variables.items()}
    # Some servers import code from their current directory and leave files in the temporary one.
    variables = child_environment(**filled, PORT=str(port), TMPDIR=str(folder))
    command = [part.format(port=port) for part in server.command]
    with (
        open(log, "wb") as out,
        Child(command, grace=STOP_SECONDS, cwd=folder, env=variables, stdout=out, stderr=out) as process,
    ):
        _await(process, server, port, log)
        yield Running(server, port, process.pid)


def _await(process: Child, server: Server, port: int, log: Path) -> None:
    from http.client import HTTPConnection, HTTPException

    deadline = time.monotonic() + START_SECONDS
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
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise RunFailed(f"the server {server.name!r} does not start; its log {log} ends with: " + " | ".join(lines))
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
