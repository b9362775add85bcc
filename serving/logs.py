"""The server's log: one JSON object per line on standard output."""

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

MAX_LINES = 10_000  # waiting to be written, some megabytes
CLOSE_SECONDS = 2.0
BATCH_SECONDS = 0.02  # lets lines accumulate, because waking a thread for each line would slow requests down

_encode = json.JSONEncoder(default=repr).encode


def _encode_event(event: dict[str, Any], **_: Any) -> str:
    return _encode(event)  # `json.dumps` would create an encoder for each line


class LineWriter:
    """Writes lines to a file. One that cannot be written (full disk, closed pipe) is lost and counted, because a
    decision must not fail for it."""

    lost = 0

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Write a line."""
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):  # ValueError if the file is closed
            LineWriter.lost += 1

    debug = info = warning = error = critical = exception = msg


class LineQueue:
    """Lets a thread write the lines, so that no request waits for a disk or for the reader of a pipe.

    Lines that do not fit while nothing can be written are lost and counted. When the process ends, waiting lines are
    written if that takes only a moment.
    """

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def msg(self, line: str) -> None:
        """Queue a line."""
        if self._waiting.qsize() >= MAX_LINES:
            LineWriter.lost += 1
        else:
            self._waiting.put(line)

    debug = info = warning = error = critical = exception = msg

    def close(self) -> None:
        """Write the waiting lines and stop."""
        self._waiting.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._writer.msg(line)
            if self._waiting.empty():
                time.sleep(BATCH_SECONDS)


def _add_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An error as its trace, without local variables and messages, which may contain customer data."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = redacted_traceback(error)
    return event


def configure() -> None:
    """Configure structlog for this process."""
    lines = LineQueue(LineWriter(sys.stdout))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace,
            structlog.processors.JSONRenderer(_encode_event),
        ],
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
