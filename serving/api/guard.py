"""Who may ask what, and how often: API keys with scopes, and a rate for each key.

Without a keys document the API answers this machine only (`serving.settings` sees to that), and everybody on it. A
browser here also runs the pages of strangers, one of which may have its own name lead to 127.0.0.1 (DNS rebinding);
such a request names that page's host, so only one that names this machine is answered.
With a document, even an empty one, a request needs a key; the server's health alone is told to anyone.
"""

import asyncio
import functools
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.registry.api_keys import Key, find, parse
from processing.errors import BadInput
from serving.api import access
from serving.api.problems import Misdirected, NoKey, NotAllowed, TooLarge, TooOften, answer_to
from serving.settings import is_loopback, is_there

OPEN = "/health/"
SCOPES = {"/v1/score": "score", "/v1/feedback": "feedback"}  # with what lies below; all else is for admin
LOOK_SECONDS = 1.0
LONGEST_SECONDS = 60.0  # of a key's rate that one batch may use up
HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d{1,5})?")  # of a Host header: [::1]:8080, localhost


class KeyRing:
    """The keys that are valid now: those of the text, else those in the file, which is followed as it changes.

    `keys` is None while there is no document. A file that was there and is gone, or cannot be read, leaves the keys
    as they were: a slip must not lock every caller out, nor let anyone in. Raises BadInput for a text, or a file at
    the start, that is no keys document.
    """

    def __init__(self, text: str | None, file: Path | None) -> None:
        self.file = file if text is None else None
        self._seen: object = None
        self._keys: tuple[Key, ...] | None = None
        if text is not None:
            self._keys = parse(text, "FRAUDLINE_API_KEYS")
        elif file is not None and is_there(file):
            self._read(file)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        """The keys as of the last look."""
        return self._keys

    def look(self) -> None:
        """Look at the file once."""
        if self.file is None:
            return
        try:
            self._read(self.file)
        except FileNotFoundError:
            if self._keys is not None and self._seen is not None:
                self._seen = None
                structlog.get_logger().error("keys_gone", file=str(self.file), then="the last ones stay valid")
        except (OSError, BadInput) as error:
            structlog.get_logger().error("keys_unreadable", why=str(error), then="the last ones stay valid")

    async def run(self) -> None:
        """Look again every second, until cancelled, in a thread: no request waits for a disk because of its key."""
        while self.file is not None:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def find(self, token: str) -> Key | None:
        """The valid key that this is; None for any other text."""
        return find(self.keys or (), token, datetime.now(UTC))

    def _read(self, file: Path) -> None:
        status = file.stat()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._seen = seen  # first: what is unreadable is told once
            self._keys = parse(file.read_text(errors="replace"), str(file))


class Rates:
    """A token bucket for each key: so many requests a second on average, and those of one second at once."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left: dict[str, tuple[float, float]] = {}  # by digest: tokens, and when that was

    def wait(self, key: Key, now: float) -> float:
        """Count a request of a key. Gives 0.0, or the seconds until it would be let in."""
        rate = key.per_second or self.per_second
        most = max(rate, 1.0)
        left, then = self._left.get(key.sha256, (most, now))
        left = min(most, left + (now - then) * rate)
        if left < 1.0:
            self._left[key.sha256] = (left, now)
            return (1.0 - left) / rate
        self._left[key.sha256] = (left - 1.0, now)
        return 0.0

    def charge(self, key: Key, rows: int) -> None:
        """Count the rows of a batch whose request was let in: requests of the key wait until they are made up for.

        Raises TooLarge for more rows than a key may send in a minute.
        """
        rate = key.per_second or self.per_second
        most = max(int(rate * LONGEST_SECONDS), 1)
        if rows > most:
            raise TooLarge(
                f"the batch has {rows:,} rows; the key {key.name!r} may send {most:,} at once, those of a minute"
            )
        left, then = self._left[key.sha256]
        self._left[key.sha256] = (left - max(rows - 1, 0), then)


class Guard:
    """ASGI middleware: lets a request through, or answers 401, 403, 421 or 429.

    The key's name is in the log lines of its requests; the token itself is nowhere. Pages of the console take a key
    from a cookie too, are told in words what is refused, and find what is kept of the key in `scope["fraudline_key"]`.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing, rates: Rates) -> None:
        self.app, self.ring, self.rates = app, ring, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            page = access.is_page(scope["path"])
            try:
                key = self._admit(scope, self.ring.keys, page)
            except (Misdirected, NoKey, NotAllowed, TooOften) as error:
                answer = access.refused(scope, error) if page else answer_to(error)
                await answer(scope, receive, send)
                return
            if key is not None:
                scope["fraudline_key"] = key
                structlog.contextvars.bind_contextvars(key=key.name)
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope, keys: tuple[Key, ...] | None, page: bool) -> Key | None:
        """The key of a request; None where none is needed."""
        if keys is None:
            if not names_this_machine(scope["headers"]):
                raise Misdirected(
                    "without keys the API answers this machine only, as 127.0.0.1, [::1] or localhost in the one Host "
                    "header; to be reached by another name, make a key with `fraudline keys add`"
                )
            return None
        if scope["path"].startswith(OPEN) or (page and access.is_open(scope["path"])):
            return None
        headers = Headers(scope=scope)
        kind, _, token = headers.get("authorization", "").partition(" ")
        if page and not kind:
            kind, token = "bearer", access.token_of(headers)
        if kind.lower() != "bearer" or not token:
            raise NoKey("a key is needed: send the header Authorization: Bearer KEY")
        key = find(keys, token.strip(), datetime.now(UTC))
        if key is None:
            raise NoKey("the key is not valid: it is unknown, was revoked, or has expired")
        needed = access.needed_for(scope["path"]) if page else (scope_of(scope["path"]),)
        if not set(needed) & set(key.scopes):
            raise NotAllowed(
                f"the key {key.name!r} is for {', '.join(key.scopes)}; {scope['path']} needs {' or '.join(needed)}"
            )
        if seconds := self.rates.wait(key, time.monotonic()):
            raise TooOften(f"the key {key.name!r} asks more often than its rate allows", seconds)
        return key


def names_this_machine(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request has one Host header, and that is an address of this machine alone, on any port."""
    hosts = [value for name, value in headers if name == b"host"]
    return len(hosts) == 1 and _is_local(hosts[0])


@functools.lru_cache(64)
def _is_local(host: bytes) -> bool:
    found = HOST.fullmatch(host.decode("latin-1"))
    return found is not None and is_loopback((found[1] or found[2]).lower())


def scope_of(path: str) -> str:
    """The scope that a key needs for a path of the API; `serving.api.access` says it of pages."""
    for prefix, needed in SCOPES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return needed
    return "admin"
