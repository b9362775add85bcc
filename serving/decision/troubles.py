"""What is amiss while requests are answered: known at once, and told once as it begins and once as it ends."""

import threading
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

STORE_UNAVAILABLE, STORE_LOST, REFRESH_UNFINISHED = "store_unavailable", "store_lost", "refresh_unfinished"
LABELS_OLD, HORIZON_OLD = "labels_old", "horizon_old"
NAMES = (STORE_UNAVAILABLE, STORE_LOST, REFRESH_UNFINISHED, LABELS_OLD, HORIZON_OLD)


class Trouble(NamedTuple):
    """One of NAMES, in words with what to do, and since when. It holds nothing that a stranger may not read."""

    name: str
    message: str
    since: datetime


class Troubles:
    """The troubles that stand now. Safe from many threads.

    The log has a line of a trouble's name as it begins, with `why` and whatever else is known of it, and a line
    `<name>_over` as it ends, with the seconds that it stood.
    """

    def __init__(self) -> None:
        self._standing: dict[str, Trouble] = {}
        self._lock = threading.Lock()
        self._log = structlog.get_logger()

    def standing(self) -> list[Trouble]:
        """Those that stand, in the order of NAMES."""
        standing = self._standing.copy()
        return [standing[name] for name in NAMES if name in standing]

    def update(self, name: str, message: str | None, **more: str) -> None:
        """A trouble stands, in these words, or no longer does (None)."""
        now = datetime.now(UTC)
        with self._lock:
            before = self._standing.pop(name, None)
            if message is not None:
                self._standing[name] = Trouble(name, message, before.since if before else now)
        if message is not None and before is None:
            self._log.error(name, why=message, **more)
        if message is None and before is not None:
            self._log.info(f"{name}_over", seconds=round((now - before.since).total_seconds(), 1))
