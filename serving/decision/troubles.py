"""Problems that exist while requests are answered: visible at once, and logged when they begin and end."""

import threading
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

STORE_UNAVAILABLE, STORE_LOST, REFRESH_UNFINISHED = "store_unavailable", "store_lost", "refresh_unfinished"
LABELS_OLD, HORIZON_OLD = "labels_old", "horizon_old"
NAMES = (STORE_UNAVAILABLE, STORE_LOST, REFRESH_UNFINISHED, LABELS_OLD, HORIZON_OLD)


class Trouble(NamedTuple):
    """One of NAMES, a message that says what to do, and since when. The message is safe to show to anybody."""

    name: str
    message: str
    since: datetime


class Troubles:
    """The troubles that exist now. Safe for many threads.

    When one begins, the log gets a line with its name, `why` and further details. When it ends, the log gets a line
    `<name>_over` with the seconds it lasted.
    """

    def __init__(self) -> None:
        self._active: dict[str, Trouble] = {}
        self._lock = threading.Lock()
        self._log = structlog.get_logger()

    def active(self) -> list[Trouble]:
        """The present troubles, in the order of NAMES."""
        active = self._active.copy()
        return [active[name] for name in NAMES if name in active]

    def update(self, name: str, message: str | None, **details: str) -> None:
        """Note that a trouble exists, with a message, or that it does not (None)."""
        now = datetime.now(UTC)
        with self._lock:
            before = self._active.pop(name, None)
            if message is not None:
                self._active[name] = Trouble(name, message, before.since if before else now)
        if message is not None and before is None:
            self._log.error(name, why=message, **details)
        if message is None and before is not None:
            self._log.info(f"{name}_over", seconds=round((now - before.since).total_seconds(), 1))
