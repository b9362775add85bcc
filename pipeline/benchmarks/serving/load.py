"""A load generator, as a process of its own: callers that keep their connections, each one request at a time.

    python -m pipeline.benchmarks.serving.load '{"port": 8080, ...}'

The argument's keys are the first fields of `Load`; "bodies" is the file that has them, a line each.

Ends after `seconds` or `most` requests. With a `rate` (requests a second) the requests are due at even intervals, and
a latency counts from when its request was due: a stall is then seen by all who would have called meanwhile (G. Tene's
"coordinated omission"). Prints {"failed": [...], "seconds", "latencies_us": [...]}.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 60.0  # seconds, of one request
ID = b"@ID@"


@dataclass
class Load:
    """A load, and what came of it."""

    port: int
    path: str
    bodies: list[bytes]
    prefix: str
    callers: int
    seconds: float
    most: int
    rate: float | None
    sent: int = 0
    latencies_us: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """Send it all."""
        self.began = time.perf_counter()
        await asyncio.gather(*(self._call() for _ in range(self.callers)))
        seconds = time.perf_counter() - self.began
        return {"failed": self.failed, "seconds": seconds, "latencies_us": self.latencies_us}

    async def _call(self) -> None:
        connection = _Connection(self.port)
        while self.sent < self.most:
            number, self.sent = self.sent, self.sent + 1
            due = time.perf_counter() if self.rate is None else self.began + number / self.rate
            if due - self.began >= self.seconds:
                break
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            body = self.bodies[number % len(self.bodies)].replace(ID, f"{self.prefix}{number}".encode())
            try:
                status, answer = await asyncio.wait_for(connection.post(self.path, body), TIMEOUT)
                wrong = "" if status == 200 else f"{status} {answer[:200]!r}"
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                connection.close()
                wrong = repr(error)
            if wrong:
                self.failed.append(wrong)
            else:
                self.latencies_us.append(round((time.perf_counter() - due) * 1e6))
        connection.close()


class _Connection:
    """One connection, opened when it is needed and kept as long as the server keeps it."""

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
        answer = await self._reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection", b"").strip() == b"close":
            self.close()
        return int(lines[0].split()[1]), answer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def main() -> None:
    """Send the load that the one argument describes."""
    import uvloop

    given = json.loads(sys.argv[1])
    given["bodies"] = Path(given["bodies"]).read_bytes().splitlines()
    print(json.dumps(uvloop.run(Load(**given).run())))


if __name__ == "__main__":
    main()
