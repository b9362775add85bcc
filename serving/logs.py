"""The server's log: one JSON object a line on stdout."""

import atexit
import json
import queue
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from processing.tracebacks import redacted_traceback

MOST_LINES = 10_000  # that wait to be written: some megabytes
CLOSING_SECONDS = 2.0
GATHER_SECONDS = 0.02  # for which lines gather: a thread that wakes up for each would get in the way of requests

_encode = json.JSONEncoder(default=repr).encode


def _encoded(event: dict[str, Any], **_: Any) -> str:
    return _encode(event)  # `json.dumps` would make an encoder for every line


class Lines:
    """Where the lines go. One that cannot be written (a full disk, a closed pipe) is lost, and counted: a decision
    must not fail for it."""

    lost = 0

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Write a line."""
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):  # ValueError: the file was closed
            Lines.lost += 1

    debug = info = warning = error = critical = exception = msg


class Queue:
    """Lines written by a thread of their own: who logs waits for no disk and no reader of a pipe.

    What does not fit while nothing can be written is lost, and counted. What waits when the process ends is written
    if that takes no longer than a moment.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def msg(self, line: str) -> None:
        """Have a line written."""
        if self._waiting.qsize() >= MOST_LINES:
            Lines.lost += 1
        else:
            self._waiting.put(line)

    debug = info = warning = error = critical = exception = msg

    def close(self) -> None:
        """Write what waits."""
        self._waiting.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._lines.msg(line)
            if self._waiting.empty():
                time.sleep(GATHER_SECONDS)


def _traced(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An error as its trace, without local variables and texts: they may hold customers' data."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = redacted_traceback(error)
    return event


def configure() -> None:
    """Set structlog up for this process."""
    lines = Queue(Lines(sys.stdout))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _traced,
            structlog.processors.JSONRenderer(_encoded),
        ],
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
