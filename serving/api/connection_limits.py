"""Limits for connections: how much a caller may send before a request is parsed, how slowly, and how many at once.

Uvicorn's own protocol has none of these limits. A head (request line and headers) that is too long is refused before
more of it is stored. Callers who send slowly or not at all, or do not fetch the response, are disconnected. When there
are as many connections as allowed, the one that has been idle longest is closed, so idle connections keep nobody out.
"""

import asyncio
import functools
import resource
from collections import deque
from dataclasses import dataclass
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from processing.errors import BadInput
from serving.api.problems import ErrorDetail, ErrorResponse
from serving.settings import Settings

MAX_HEAD_BYTES = 32_768  # of request line and headers together, and of the trailers of a chunked body
MAX_HEADERS = 100
MAX_URL_BYTES = 4_096
MAX_CHUNK_OVERHEAD = 16  # bytes sent per byte of a chunked body; callers need at least 6
MAX_PIPELINED = 16  # requests waiting on one connection for the response to an earlier one
LINGER_SECONDS = 5.0  # for the rest of a body after its response, and for a caller to fetch an error
SETTLED_SECONDS = 1.0  # a connection that was active within this time is not closed for another
OTHER_FILES = 128  # open besides connections: the store, the log, calls to AWS, pipes to a child process


@dataclass(frozen=True)
class Limits:
    """How many connections may be open at once, and how long the server waits for each."""

    connections: int
    head_seconds: float
    body_seconds: float
    answer_seconds: float


def uvicorn_options(settings: Settings, connections: int | None = None) -> dict[str, Any]:
    """Uvicorn's options for a server with these limits. `connections` replaces the setting, see `max_connections`."""
    limits = Limits(
        connections or settings.connections, settings.head_seconds, settings.body_seconds, settings.answer_seconds
    )
    return {
        "http": functools.partial(Connection, limits=limits),
        "loop": "uvloop",
        "ws": "none",  # nothing here uses web sockets, and their protocol would have none of these limits
        "timeout_keep_alive": settings.idle_seconds,
    }


def max_connections(connections: int) -> int:
    """How many of these connections this process can have open, after raising its limit of open files if possible.

    Raises BadInput if it can have none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    if soft <= OTHER_FILES:
        raise BadInput(f"the limit of {soft} open files is too low to serve; raise it (ulimit -n 4096)")
    return min(connections, soft - OTHER_FILES)


class Connection(HttpToolsProtocol):
    """A caller's connection. All connections of a server share the `limits`."""

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = limits
        self.pipeline: deque[Any]
        self._part = ""  # the part of a request being received: "head", "body", or "" between requests
        self._size = 0  # bytes of its head
        self._surplus = 0  # bytes received since then that are not body
        self._refusal = (400, "this is not a valid HTTP/1.1 request")
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for = ""  # what the timer is for
        self._fetch_timer: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._refuse(503, "the server has too many open connections; retry in a second")
        else:
            self._wait_for("head", self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._fetch_timer is not None:
            self._fetch_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._part:
            self._surplus += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._part and self._surplus > MAX_HEAD_BYTES:  # an endless line in the head, or after the body
            self._refuse(431, f"request line and headers are longer than {MAX_HEAD_BYTES:,} bytes")
        elif self._part == "head":
            if self._waits_for != "head":
                self._wait_for("head", self.limits.head_seconds)
        elif self._part == "body":
            if self._waits_for not in ("body", "rest"):
                self._wait_for("body", self.limits.body_seconds)
        elif self._is_responding() or self.timeout_keep_alive_task is not None:
            self._stop_waiting()
        elif not self._waits_for:  # only line ends so far
            self._wait_for("head", self.limits.head_seconds)

    def send_400_response(self, msg: str) -> None:
        """Respond to what the parser, or a limit in its callbacks, rejected."""
        self._refuse(*self._refusal)

    # Callbacks of the parser. An error in one leads to `send_400_response`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._size, self._surplus, self._waits_for = "head", 0, 0, ""

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._size += len(url)
        if len(self.url) > MAX_URL_BYTES:
            self._reject(414, f"the URL is longer than {MAX_URL_BYTES:,} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD_BYTES:
            self._reject(431, f"request line and headers are longer than {MAX_HEAD_BYTES:,} bytes")
        if self._part != "head":  # a trailer after a chunked body, which nothing reads
            return
        if len(self.headers) >= MAX_HEADERS:
            self._reject(431, f"the request has more than {MAX_HEADERS} headers")
        HttpToolsProtocol.on_header(self, name, value)  # called for each header: cheaper than super()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._surplus = max(0, self._surplus - MAX_CHUNK_OVERHEAD * len(body))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._reject(429, "too many requests are waiting on this connection; send the next after a response")
        super().on_headers_complete()
        self._part, self._surplus = "body", 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = ""

    def _reject(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise ValueError(message)

    # Timers.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            self._wait_for("end", self.limits.answer_seconds)
        elif self._part == "body":
            self._wait_for("rest", LINGER_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._fetch_timer = self.loop.call_later(self.limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._fetch_timer is not None:
            self._fetch_timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once if the caller has not even fetched a response."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _wait_for(self, what: str, seconds: float) -> None:
        self._stop_waiting()
        self._waits_for = what
        self._timer = self.loop.call_later(seconds, self._late)

    def _stop_waiting(self) -> None:
        self._waits_for = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        waited_for = self._waits_for
        if waited_for == "end":
            self.transport.abort()
        elif waited_for == "rest" or not self._part:
            self.transport.close()
        else:
            seconds = self.limits.head_seconds if waited_for == "head" else self.limits.body_seconds
            self._refuse(408, f"the request's {waited_for} did not arrive within {seconds:g} s")

    def _is_responding(self) -> bool:
        """Whether a response is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest. False if none is idle."""
        open_ones = [
            each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()
        ]
        if len(open_ones) <= self.limits.connections:
            return True
        latest = self.loop.time() - SETTLED_SECONDS
        idle = [
            each
            for each in open_ones
            if each._idle_since < latest and each._part != "body" and not each._is_responding()
        ]
        if not idle:
            return False
        # Prefer connections that never sent a request: a load balancer keeps used ones open for the next.
        min(idle, key=lambda each: (each.cycle is not None, each._idle_since)).transport.abort()
        return True

    def _refuse(self, status: int, message: str) -> None:
        """Send an error, unless a response has started, and close the connection."""
        structlog.get_logger().warning("connection_refused", status=status, why=message)
        if self._is_responding():
            too_late = self.cycle.response_started or self._part != "body"
            self.cycle.disconnected = True  # discards what the app still sends
            self.cycle.message_event.set()
            if too_late:
                self.transport.abort()
                return
        body = ErrorResponse(error=ErrorDetail(message=message)).model_dump_json().encode()
        wait = b"retry-after: 1\r\n" if status in (429, 503) else b""
        head = b"content-type: application/json\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % (wait, len(body)) + body)
        self.transport.close()
        self._wait_for("end", LINGER_SECONDS)
