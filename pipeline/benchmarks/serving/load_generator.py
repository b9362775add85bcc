"""A load generator that runs as its own process: callers with keep-alive connections, one request at a time each.

    python -m pipeline.benchmarks.serving.load_generator '{"port": 8080, ...}'

The argument's keys are the first fields of `LoadGenerator`; "bodies" names a file with one request body per line.

Ends after `seconds` or `max_requests`. With a `rate` (requests per second) requests are due at even intervals, and
latency counts from the due time, so that a stall also shows in the requests that it delayed (no "coordinated
omission", G. Tene). Prints {"failed": [...], "seconds", "latencies_us": [...]}.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 60.0  # seconds per request
ID = b"@ID@"


@dataclass
class LoadGenerator:
    """A load and its results: the requests sent, their latencies, the errors of failed ones."""

    port: int
    path: str
    bodies: list[bytes]
    prefix: str
    callers: int
    seconds: float
    max_requests: int
    rate: float | None
    sent: int = 0
    latencies_us: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """Send the load; returns the results."""
        self.began = time.perf_counter()
        await asyncio.gather(*(self._call() for _ in range(self.callers)))
        seconds = time.perf_counter() - self.began
        return {"failed": self.failed, "seconds": seconds, "latencies_us": self.latencies_us}

    async def _call(self) -> None:
        connection = _Connection(self.port)
        while self.sent < self.max_requests:
            number, self.sent = self.sent, self.sent + 1
            due = time.perf_counter() if self.rate is None else self.began + number / self.rate
            if due - self.began >= self.seconds:
                break
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            body = self.bodies[number % len(self.bodies)].replace(ID, f"{self.prefix}{number}".encode())
            try:
                status, response = await asyncio.wait_for(connection.post(self.path, body), TIMEOUT)
                error = "" if status == 200 else f"{status} {response[:200]!r}"
            except (OSError, EOFError, ValueError, TimeoutError) as problem:
                connection.close()
                error = repr(problem)
            if error:
                self.failed.append(error)
            else:
                self.latencies_us.append(round((time.perf_counter() - due) * 1e6))
        connection.close()


class _Connection:
    """A connection, opened when needed and kept open as long as the server allows."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines[1:] if line)
        response = await self._reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection", b"").strip() == b"close":
            self.close()
        return int(lines[0].split()[1]), response

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def main() -> None:
    """Send the load that the argument describes."""
    import uvloop

    load = json.loads(sys.argv[1])
    load["bodies"] = Path(load["bodies"]).read_bytes().splitlines()
    print(json.dumps(uvloop.run(LoadGenerator(**load).run())))


if __name__ == "__main__":
    main()
