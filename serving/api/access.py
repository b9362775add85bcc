"""Who may see which page of the console: sign-in by cookie, scopes, and errors shown as pages.

The cookie holds the key and is accepted for pages only, never for the API's own routes. It is HttpOnly, so that no
script reads it, and SameSite=Strict, so that no other site's page sends it. Changes require HTMX's HX-Request header,
which a form of another site cannot send (OWASP, Cross-Site Request Forgery Prevention: custom request headers).
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from pipeline.registry.api_keys import SCOPES, Key
from processing.errors import FraudlineError
from serving.api.problems import NoKey, NotAllowed, error_response, headers_of, status_of

COOKIE = "fraudline_key"
SIGN_IN = "/console/sign-in"
PREFIX = "/console/"
PUBLIC = (SIGN_IN, "/console/static/")  # anyone may see the sign-in page and its files
PAGE_SCOPES = {  # a key needs one of these for the page; every other page needs admin
    "/console/score": ("score",),
    "/console/feedback": ("feedback",),
    "/console/sign-out": SCOPES,
    "/": SCOPES,
}


class ConsolePage(NamedTuple):
    """An entry of the console's navigation."""

    path: str
    title: str
    scope: str


PAGES = (
    ConsolePage("/", "Overview", "admin"),
    ConsolePage("/console/score", "Score", "score"),
    ConsolePage("/console/feedback", "Feedback", "feedback"),
    ConsolePage("/console/versions", "Models", "admin"),
    ConsolePage("/console/runs", "Runs", "admin"),
    ConsolePage("/console/drift", "Drift", "admin"),
    ConsolePage("/docs", "API", "admin"),
)

ERROR_LINKS = (("/", "Back to the console"), (SIGN_IN, "Use another key"))


@dataclass(frozen=True)
class Viewer:
    """The person at a page: the name of their key, None if the API has no keys, and the key's scopes."""

    name: str | None
    scopes: tuple[str, ...]

    def pages(self) -> list[ConsolePage]:
        """The pages this viewer may open."""
        return [page for page in PAGES if page.scope in self.scopes]

    @property
    def author(self) -> str:
        """The viewer as the registry records them."""
        return f"the console, key {self.name}" if self.name else "the console"


def is_page(path: str) -> bool:
    """Whether a path belongs to the console."""
    return path in ("/", "/docs", "/openapi.json", "/report") or path.startswith((PREFIX, "/report/"))


def is_public(path: str) -> bool:
    """Whether a page needs no key."""
    return path.startswith(PUBLIC)


def cookie_key(headers: Headers) -> str:
    """The key in a request's cookie; empty if there is none."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def scopes_for_page(path: str) -> tuple[str, ...]:
    """The scopes of which a key needs one for a page."""
    return next((scopes for page, scopes in PAGE_SCOPES.items() if path in (page, f"{page}/")), ("admin",))


def viewer_of(request: Request) -> Viewer:
    """The person who sent a request. Without keys, everyone may do everything."""
    key: Key | None = request.scope.get("fraudline_key")
    return Viewer(key.name, key.scopes) if key else Viewer(None, SCOPES)


def set_cookie(response: Response, token: str, request: Request) -> None:
    """Store a key in the browser until it is closed; over TLS, for TLS only."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict", secure=secure)


def delete_cookie(response: Response) -> None:
    """Remove the key from the browser."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def check_same_site(request: Request) -> None:
    """Raise NotAllowed for a change that does not come from a page of the console."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if request.headers.get("hx-request") != "true" or foreign:
        raise NotAllowed("this request did not come from the console; use the console's own pages")


def error_page(scope: Scope, error: FraudlineError) -> Response:
    """An error as a browser should show it: a message, or the sign-in page if a key is missing. Programs get JSON."""
    headers = Headers(scope=scope)
    is_htmx = headers.get("hx-request") == "true"
    in_browser = is_htmx or accepts_html(headers)
    if isinstance(error, NoKey) and in_browser:
        target = f"{SIGN_IN}?ended=1" if cookie_key(headers) else SIGN_IN
        if is_htmx:
            return Response(status_code=401, headers={"HX-Redirect": target, "WWW-Authenticate": "Bearer"})
        return RedirectResponse(target, 303)
    status = status_of(error)
    if status is None or not in_browser:
        return error_response(error)
    message = f'<p class="refused" role="alert">{html.escape(str(error))}</p>'
    links = [(page.path, page.title) for page in viewer_of(Request(scope)).pages()] if status == 404 else []
    return HTMLResponse(message if is_htmx else _whole_page(message, links), status, headers_of(status, error))


def accepts_html(headers: Headers) -> bool:
    """Whether a browser asks for a page."""
    return "text/html" in headers.get("accept", "")


def _whole_page(message: str, links: Sequence[tuple[str, str]]) -> str:
    anchors = " · ".join(f'<a href="{path}">{html.escape(title)}</a>' for path, title in [*links, *ERROR_LINKS])
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Fraudline</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/console/static/console.css"></head>'
        f"<body><main>{message}<p>{anchors}</p></main></body></html>"
    )
