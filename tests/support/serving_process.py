"""A server process, for tests that send it requests."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from serving_home import address_of, server_process


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """The address of a server process that logs to a file."""
    with open(log, "w") as out:
        process = server_process(folder, stdout=out, FRAUDLINE_FOLLOW_SECONDS="0.1")
        try:
            address = address_of(process)
            wait_until(lambda: is_ready(address))
            yield address
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.communicate()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def readiness(address: str) -> dict[str, Any]:
    """The document at /health/ready of a server that is ready."""
    reply = httpx.get(f"{address}/health/ready")
    assert reply.status_code == 200
    document: dict[str, Any] = reply.json()
    return document


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.05)
