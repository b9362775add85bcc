"""The server's log: one JSON object a line on stdout."""

import json
import sys
from typing import Any, TextIO

import structlog

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


def configure() -> None:
    """Set structlog up for this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # without local variables: they hold customers' data
            structlog.processors.JSONRenderer(_encoded),
        ],
        logger_factory=lambda *_: Lines(sys.stdout),
        cache_logger_on_first_use=True,
    )
