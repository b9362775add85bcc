"""Who may see which page: a key in a cookie in place of the Authorization header, and refusals in words.

The cookie is taken for pages alone, never for the API's own routes. It is HttpOnly, so that no script reads it, and
SameSite=Strict, so that no other site's page sends it. What changes something is asked for by HTMX, whose HX-Request
header a form of another site cannot send (OWASP, Cross-Site Request Forgery Prevention: custom request headers).
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
from serving.api.problems import NoKey, NotAllowed, answer_to, headers_of, status_of

COOKIE = "fraudline_key"
SIGN_IN = "/console/sign-in"
BELOW = "/console/"
OPEN = (SIGN_IN, "/console/static/")  # what a sign-in page needs is shown to anyone
NEEDED = {  # of a page, with what lies below it: one of these scopes. All else of the console is for admin
    "/console/score": ("score",),
    "/console/feedback": ("feedback",),
    "/console/sign-out": SCOPES,
    "/": SCOPES,
}


class Page(NamedTuple):
    """A page of the console, in its navigation."""

    path: str
    title: str
    scope: str


PAGES = (
    Page("/", "Overview", "admin"),
    Page("/console/score", "Score", "score"),
    Page("/console/feedback", "Feedback", "feedback"),
    Page("/console/versions", "Models", "admin"),
    Page("/console/runs", "Runs", "admin"),
    Page("/console/drift", "Drift", "admin"),
    Page("/docs", "API", "admin"),
)

ALWAYS = (
    ("/", "Back to the console"),
    (SIGN_IN, "Use another key"),
)  # links of a page that says no more than one thing


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page: the name of the key, None where the API has no keys, and what it may do."""

    name: str | None
    scopes: tuple[str, ...]

    def pages(self) -> list[Page]:
        """The pages that this viewer may open."""
        return [page for page in PAGES if page.scope in self.scopes]

    @property
    def caller(self) -> str:
        """Who did something, as the registry records it."""
        return f"the console, key {self.name}" if self.name else "the console"


def is_page(path: str) -> bool:
    """Whether a path is of the console."""
    return path in ("/", "/docs", "/openapi.json", "/report") or path.startswith((BELOW, "/report/"))


def is_open(path: str) -> bool:
    """Whether a page is shown without a key."""
    return path.startswith(OPEN)


def token_of(headers: Headers) -> str:
    """The key in the cookie of a request; an empty text if there is none."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def needed_for(path: str) -> tuple[str, ...]:
    """The scopes of which a key needs one for a page."""
    return next((scopes for page, scopes in NEEDED.items() if path in (page, f"{page}/")), ("admin",))


def viewer_of(request: Request) -> Viewer:
    """Who asks; everything is open where the API has no keys."""
    key: Key | None = request.scope.get("fraudline_key")
    return Viewer(key.name, key.scopes) if key else Viewer(None, SCOPES)


def keep(response: Response, token: str, request: Request) -> None:
    """Have the browser keep a key until it is closed; over TLS alone, where there is TLS."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict", secure=secure)


def forget(response: Response) -> None:
    """Have the browser forget the key."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def must_be_ours(request: Request) -> None:
    """Raise NotAllowed for a change that no page of the console asks for."""
    origin = request.headers.get("origin")
    strange = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if request.headers.get("hx-request") != "true" or strange:
        raise NotAllowed("a page of another site, or none, asked for this; it is done from the console's pages alone")


def refused(scope: Scope, error: FraudlineError) -> Response:
    """What a page shows of an error: a sentence, or the sign-in page for want of a key. A program is told in JSON."""
    headers = Headers(scope=scope)
    by_htmx = headers.get("hx-request") == "true"
    by_person = by_htmx or by_browser(headers)
    if isinstance(error, NoKey) and by_person:
        target = f"{SIGN_IN}?ended=1" if token_of(headers) else SIGN_IN
        if by_htmx:
            return Response(status_code=401, headers={"HX-Redirect": target, "WWW-Authenticate": "Bearer"})
        return RedirectResponse(target, 303)
    status = status_of(error)
    if status is None or not by_person:
        return answer_to(error)
    said = f'<p class="refused" role="alert">{html.escape(str(error))}</p>'
    links = [(page.path, page.title) for page in viewer_of(Request(scope)).pages()] if status == 404 else []
    return HTMLResponse(said if by_htmx else _alone(said, links), status, headers_of(status, error))


def by_browser(headers: Headers) -> bool:
    """Whether a person's browser asks for a page."""
    return "text/html" in headers.get("accept", "")


def _alone(said: str, links: Sequence[tuple[str, str]]) -> str:
    links = [*links, *ALWAYS]
    shown = " · ".join(f'<a href="{address}">{html.escape(title)}</a>' for address, title in links)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Fraudline</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/console/static/console.css"></head>'
        f"<body><main>{said}<p>{shown}</p></main></body></html>"
    )
