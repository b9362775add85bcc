"""Authentication and rate limiting: API keys with scopes, and a rate for each key.

Without a keys document the API only answers this machine (`serving.settings` ensures that), and anyone on it. A
browser here also runs pages of other sites, and one of them may point its own name at 127.0.0.1 (DNS rebinding). Such
a request carries that site's host name, so only requests whose Host header names this machine are answered.
With a document, even an empty one, every request needs a key; only the health routes do not.
"""

import functools
import re
import time
from collections.abc import Iterable

import structlog
from fastapi import Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.registry.api_keys import Key
from serving.api import access
from serving.api.key_ring import KeyRing, RateLimiter
from serving.api.problems import Misdirected, NoKey, NotAllowed, TooManyRequests, error_response
from serving.settings import is_loopback

PUBLIC = "/health/"
SCOPES = {"/v1/score": "score", "/v1/feedback": "feedback"}  # and paths below them; everything else needs admin
HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d{1,5})?")  # a Host header: [::1]:8080, localhost
NEEDS_KEY = Security(  # documents a route in the OpenAPI document; the Guard is what checks the key
    HTTPBearer(auto_error=False, scheme_name="key", description="A key from `fraudline keys add`, if the API has keys")
)


class Guard:
    """ASGI middleware: passes a request on, or responds with 401, 403, 421 or 429.

    The key's name appears in the log lines of its requests, the key itself nowhere. Pages of the console also accept
    the key from a cookie, show errors as pages, and find the key's record in `scope["fraudline_key"]`.
    """

    def __init__(self, app: ASGIApp, key_ring: KeyRing, rate_limiter: RateLimiter) -> None:
        self.app, self.key_ring, self.rate_limiter = app, key_ring, rate_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            page = access.is_page(scope["path"])
            try:
                key = self._authenticate(scope, page)
            except (Misdirected, NoKey, NotAllowed, TooManyRequests) as error:
                response = access.error_page(scope, error) if page else error_response(error)
                await response(scope, receive, send)
                return
            if key is not None:
                scope["fraudline_key"] = key
                structlog.contextvars.bind_contextvars(key=key.name)
        await self.app(scope, receive, send)

    def _authenticate(self, scope: Scope, page: bool) -> Key | None:
        """The key of a request; None if it needs none."""
        path = scope["path"]
        if self.key_ring.keys is None:
            if not names_this_machine(scope["headers"]):
                raise Misdirected(
                    "without keys the API only answers requests with a single Host header of 127.0.0.1, [::1] or "
                    "localhost; to use another name, create a key with `fraudline keys add`"
                )
            return None
        if path.startswith(PUBLIC) or (page and access.is_public(path)):
            return None
        headers = Headers(scope=scope)
        kind, _, token = headers.get("authorization", "").partition(" ")
        if page and not kind:
            kind, token = "bearer", access.cookie_key(headers)
        if kind.lower() != "bearer" or not token:
            raise NoKey("a key is required: send the header Authorization: Bearer KEY")
        key = self.key_ring.find(token.strip())
        if key is None:
            raise NoKey("the key is invalid: it is unknown, was revoked or has expired")
        scopes = access.scopes_for_page(path) if page else (scope_of(path),)
        if not set(scopes) & set(key.scopes):
            raise NotAllowed(f"the key {key.name!r} is for {', '.join(key.scopes)}; {path} needs {' or '.join(scopes)}")
        if seconds := self.rate_limiter.wait(key, time.monotonic()):
            raise TooManyRequests(f"the key {key.name!r} exceeds its rate; retry in {seconds:.3g} s", seconds)
        return key


def names_this_machine(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request has exactly one Host header, and it is a loopback address, on any port."""
    hosts = [value for name, value in headers if name == b"host"]
    return len(hosts) == 1 and _is_local(hosts[0])


@functools.lru_cache(64)
def _is_local(host: bytes) -> bool:
    match = HOST.fullmatch(host.decode("latin-1"))
    return match is not None and is_loopback((match[1] or match[2]).lower())


def scope_of(path: str) -> str:
    """The scope that a key needs for a path of the API; for pages see `serving.api.access`."""
    for prefix, scope in SCOPES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return scope
    return "admin"
