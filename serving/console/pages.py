"""How a page is made: its route, its template, and the static files it loads."""

import functools
import hashlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from processing.errors import BadInput, FraudlineError, NotFound
from serving.api.access import accepts_html, check_same_site, error_page, viewer_of
from serving.api.json_route import check_content_type, read_body
from serving.api.problems import TooLarge, http_error_response, status_of

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
FILES = ("console.css", "console.js", "htmx.min.js", "htmx.LICENSE.txt")
MAX_FORM_BYTES = 65_536
MAX_FORM_FIELDS = 1_000


class PageRoute(APIRoute):
    """A route for a page or a part of one. Shows errors as pages, and accepts changes from the console only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            try:
                if request.method == "POST":
                    check_same_site(request)
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                return error_page(request.scope, BadInput(f"{first['loc'][-1]}: {first['msg']}"))
            except FraudlineError as error:
                if status_of(error) is None:  # e.g. AWS denied access, or a file is damaged; this viewer may know
                    error = BadInput(str(error))
                return error_page(request.scope, error)

        return handle_page


def page_router() -> APIRouter:
    """A router for pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def add_not_found_page(app: FastAPI) -> None:
    """Show browsers a page with links where a path does not exist."""
    app.add_exception_handler(HTTPException, _report_not_found)


def _report_not_found(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 404 and accepts_html(request.headers):
        return error_page(request.scope, NotFound(f"there is no page {request.url.path}"))
    return http_error_response(request, error)


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template. Values are escaped."""
    values |= {"viewer": viewer_of(request), "path": request.url.path, "digest": _static_digest()}
    return HTMLResponse(_environment().get_template(template).render(values), status)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a submitted form, the last of each name. Raises UnknownMediaType and TooLarge."""
    check_content_type(request.headers, "application/x-www-form-urlencoded")
    body = await read_body(request.headers, request.receive, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise TooLarge(f"the form has more than {MAX_FORM_FIELDS} fields") from None


@functools.cache
def _static_digest() -> str:
    return hashlib.sha256(b"".join((STATIC / name).read_bytes() for name in FILES)).hexdigest()[:12]


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"time": format_time, "number": "{:,}".format, "id_of": element_id}
    return environment


def format_time(time: datetime | str | None) -> str:
    """A time in UTC, to the second."""
    if not time:
        return "–"
    try:
        value = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        return str(time)
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def element_id(text: str) -> str:
    """An HTML id derived from any text."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
