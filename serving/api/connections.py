"""What a connection may cost before a request is understood: bytes and lines of its head, time, and one of few places.

Uvicorn's own protocol bounds none of these. A head that is too long is refused before more of it is kept; whoever
sends slowly, or not at all, or does not fetch the answer, is hung up on; and when all places are taken, the connection
on which nothing was asked for the longest makes room, so that idle ones cannot keep out a caller who asks.
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
from serving.api.problems import Problem, Refusal
from serving.settings import Settings

MOST_HEAD_BYTES = 32_768  # of a request's line and headers together, and of what follows a chunked body
MOST_HEADERS = 100
MOST_URL_BYTES = 4_096
LEAST_BODY = 16  # bytes sent for one of a chunked body, at most; the least that callers need is 6
MOST_PIPELINED = 16  # requests that wait on one connection for the answer to an earlier one
LINGER_SECONDS = 5.0  # for the rest of a body that is answered already, and for a caller to fetch a refusal
SETTLED_SECONDS = 1.0  # for which a connection is not asked to make room for another
OTHER_FILES = 128  # that the server has open besides connections: the store, the log, calls to AWS, a child's pipes


@dataclass(frozen=True)
class Limits:
    """How many connections there may be at once, and for how long each may be waited for."""

    connections: int
    head_seconds: float
    body_seconds: float
    answer_seconds: float


def options(settings: Settings, connections: int | None = None) -> dict[str, Any]:
    """Uvicorn's options for a server that keeps these limits; fewer `connections` where not so many are possible."""
    limits = Limits(
        connections or settings.connections, settings.head_seconds, settings.body_seconds, settings.answer_seconds
    )
    return {
        "http": functools.partial(Connection, limits=limits),
        "loop": "uvloop",
        "ws": "none",  # there is nothing here for a web socket, and a protocol of its own would have no limits
        "timeout_keep_alive": settings.idle_seconds,
    }


def places(connections: int) -> int:
    """So many connections as this process may have open, once its limit of files is raised as far as that goes.

    Raises BadInput if that leaves none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    if soft <= OTHER_FILES:
        raise BadInput(f"this process may open {soft} files, too few to serve: raise the limit (ulimit -n 4096)")
    return min(connections, soft - OTHER_FILES)


class Connection(HttpToolsProtocol):
    """One connection of a caller. `limits` holds for all of a server."""

    def __init__(self, *arguments: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = limits
        self.pipeline: deque[Any]
        self._part = ""  # of a request that is being received: "head", "body", or nothing between requests
        self._size = 0  # bytes of its head
        self._surplus = 0  # bytes that came after its first ones and are no body
        self._refusal = (400, "this is not a request in HTTP/1.1 that can be read")
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for = ""  # what the timer is about
        self._fetch_timer: asyncio.TimerHandle | None = None
        self._quiet_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._find_room():
            self._refuse(503, "the server has as many connections as it may have; try again in a second")
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
        if self._part and self._surplus > MOST_HEAD_BYTES:  # a line of its head, or after its body, goes on and on
            self._refuse(431, f"the request's head is longer than {MOST_HEAD_BYTES:,} bytes")
        elif self._part == "head":
            if self._waits_for != "head":
                self._wait_for("head", self.limits.head_seconds)
        elif self._part == "body":
            if self._waits_for not in ("body", "rest"):
                self._wait_for("body", self.limits.body_seconds)
        elif self._working() or self.timeout_keep_alive_task is not None:
            self._stop_waiting()
        elif not self._waits_for:  # line ends alone, before a request
            self._wait_for("head", self.limits.head_seconds)

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser, or a limit in its callbacks, could not let pass."""
        self._refuse(*self._refusal)

    # Callbacks of the parser. An error ends in `send_400_response`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._size, self._surplus, self._waits_for = "head", 0, 0, ""

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._size += len(url)
        if len(self.url) > MOST_URL_BYTES:
            self._too_much(414, f"the request's address is longer than {MOST_URL_BYTES:,} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MOST_HEAD_BYTES:
            self._too_much(431, f"the request's head is longer than {MOST_HEAD_BYTES:,} bytes")
        if self._part != "head":  # it comes after a chunked body: nothing here reads that
            return
        if len(self.headers) >= MOST_HEADERS:
            self._too_much(431, f"the request has more than {MOST_HEADERS} headers")
        HttpToolsProtocol.on_header(self, name, value)  # the one call for each line: cheaper than super()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._surplus = max(0, self._surplus - LEAST_BODY * len(body))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._too_much(429, "too many requests wait on this connection; send the next when one is answered")
        super().on_headers_complete()
        self._part, self._surplus = "body", 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = ""

    def _too_much(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise ValueError(message)

    # What is waited for, and for how long.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._quiet_since = self.loop.time()
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
        """Hang up on a caller who asks no more; at once if an answer was not even fetched."""
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
            self._refuse(408, f"the request's {waited_for} did not come within {seconds:g} s")

    def _working(self) -> bool:
        """Whether an answer is being made."""
        return self.cycle is not None and not self.cycle.response_complete

    def _find_room(self) -> bool:
        """Hang up on the connection that asks nothing for the longest. False if there is none to hang up on."""
        here = [each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()]
        if len(here) <= self.limits.connections:
            return True
        latest = self.loop.time() - SETTLED_SECONDS
        quiet = [each for each in here if each._quiet_since < latest and each._part != "body" and not each._working()]
        if not quiet:
            return False
        # Those that never asked go before those that did: a load balancer keeps some for what comes next.
        min(quiet, key=lambda each: (each.cycle is not None, each._quiet_since)).transport.abort()
        return True

    def _refuse(self, status: int, message: str) -> None:
        """Answer, unless an answer is under way already, and hang up."""
        structlog.get_logger().warning("connection_refused", status=status, why=message)
        if self._working():
            began = self.cycle.response_started or self._part != "body"
            self.cycle.disconnected = True  # what is still made of it goes nowhere
            self.cycle.message_event.set()
            if began:
                self.transport.abort()
                return
        body = Refusal(error=Problem(message=message)).model_dump_json().encode()
        wait = b"retry-after: 1\r\n" if status in (429, 503) else b""
        head = b"content-type: application/json\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % (wait, len(body)) + body)
        self.transport.close()
        self._wait_for("end", LINGER_SECONDS)
