"""The API keys that are valid now, and how often each may be used."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import structlog

from pipeline.registry.api_keys import Key, find_key, parse_keys
from processing.errors import BadInput
from serving.api.problems import TooLarge
from serving.settings import is_there

LOOK_SECONDS = 1.0
MAX_BATCH_SECONDS = 60.0  # how much of a key's rate one batch may use up


class KeyRing:
    """The valid keys: those of the given text, else those of the file, which is followed as it changes.

    `keys` is None while there is no document. If the file disappears or becomes unreadable, the last keys stay valid:
    a slip must neither lock every caller out nor let anyone in. Raises BadInput if the text, or the file at the
    start, is not a keys document.
    """

    def __init__(self, text: str | None, file: Path | None) -> None:
        self.file = file if text is None else None
        self._seen: object = None
        self._keys: tuple[Key, ...] | None = None
        if text is not None:
            self._keys = parse_keys(text, "FRAUDLINE_API_KEYS")
        elif file is not None and is_there(file):
            self._read(file)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        """The keys as of the last look."""
        return self._keys

    def look(self) -> None:
        """Read the file again if it has changed."""
        if self.file is None:
            return
        try:
            self._read(self.file)
        except FileNotFoundError:
            if self._keys is not None and self._seen is not None:
                self._seen = None
                structlog.get_logger().error("keys_gone", file=str(self.file), then="the last keys stay valid")
        except (OSError, BadInput) as error:
            structlog.get_logger().error("keys_unreadable", why=str(error), then="the last keys stay valid")

    async def run(self) -> None:
        """Look every second until cancelled. It happens in a thread, so no request waits for a disk."""
        while self.file is not None:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def find(self, token: str) -> Key | None:
        """The valid key that a caller sent; None if it is not valid."""
        return find_key(self._keys or (), token, datetime.now(UTC))

    def _read(self, file: Path) -> None:
        status = file.stat()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._seen = seen  # before parsing, so that an unreadable file is reported once
            self._keys = parse_keys(file.read_text(errors="replace"), str(file))


class RateLimiter:
    """A token bucket for each key: so many requests a second on average, with one second's worth at once."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens and the time of that count, by the key's digest

    def wait(self, key: Key, now: float) -> float:
        """Count a request of a key. Returns 0.0 if it is accepted, else the seconds until it would be."""
        rate = key.per_second or self.per_second
        capacity = max(rate, 1.0)
        tokens, then = self._buckets.get(key.sha256, (capacity, now))
        tokens = min(capacity, tokens + (now - then) * rate)
        if tokens < 1.0:
            self._buckets[key.sha256] = (tokens, now)
            return (1.0 - tokens) / rate
        self._buckets[key.sha256] = (tokens - 1.0, now)
        return 0.0

    def charge(self, key: Key, rows: int) -> None:
        """Count the rows of an accepted batch: the key's next requests wait until its rate has made up for them.

        Raises TooLarge for more rows than the key may send in a minute.
        """
        rate = key.per_second or self.per_second
        limit = max(int(rate * MAX_BATCH_SECONDS), 1)
        if rows > limit:
            raise TooLarge(
                f"the batch has {rows:,} rows; the key {key.name!r} may send {limit:,} at once, a minute's worth"
            )
        tokens, then = self._buckets[key.sha256]
        self._buckets[key.sha256] = (tokens - max(rows - 1, 0), then)
