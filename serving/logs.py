"""The server's log: one JSON object a line on stdout."""

import json
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from processing.tracebacks import trace_of

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


def _traced(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An error as its trace, without local variables and texts: they may hold customers' data."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = trace_of(error)
    return event


def configure() -> None:
    """Set structlog up for this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _traced,
            structlog.processors.JSONRenderer(_encoded),
        ],
        logger_factory=lambda *_: Lines(sys.stdout),
        cache_logger_on_first_use=True,
    )
