"""How a page is made: its template, the files it brings, and its route, which tells errors in words."""

import functools
import hashlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from processing.errors import BadInput, FraudlineError, NotFound
from serving.api.access import must_be_ours, refused, viewer_of
from serving.api.json_route import must_be, read_body
from serving.api.problems import TooLarge, status_of

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
FILES = ("console.css", "console.js", "htmx.min.js", "htmx.LICENSE.txt")
LARGEST_FORM = 65_536  # bytes
MOST_FIELDS = 1_000  # of a form


class PageRoute(APIRoute):
    """A route of a page or a part of one. What changes something is taken from the console's own pages alone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                if request.method == "POST":
                    must_be_ours(request)
                return await handle(request)
            except RequestValidationError as error:
                wrong = error.errors()[0]
                return refused(request.scope, BadInput(f"{wrong['loc'][-1]}: {wrong['msg']}"))
            except FraudlineError as error:
                if status_of(error) is None:  # AWS refused, a file is damaged: told as what it is, to who may see it
                    error = BadInput(str(error))
                return refused(request.scope, error)

        return answer


def rendered(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as an answer. What is inserted is escaped."""
    values |= {"viewer": viewer_of(request), "path": request.url.path, "digest": _digest()}
    return HTMLResponse(_environment().get_template(template).render(values), status)


async def posted(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name. Raises UnknownMediaType and TooLarge."""
    must_be(request.headers, "application/x-www-form-urlencoded")
    body = await read_body(request.headers, request.receive, LARGEST_FORM)
    try:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise TooLarge(f"the form has more than {MOST_FIELDS} fields") from None


def static(name: str) -> FileResponse:
    """A file that pages bring along, which a browser may keep: its address changes with the content."""
    if name not in FILES:
        raise NotFound(f"the console has no file {name!r}")
    return FileResponse(STATIC / name, headers={"Cache-Control": "public, max-age=604800"})


@functools.cache
def _digest() -> str:
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
    environment.filters |= {"moment": moment, "number": "{:,}".format, "short": short}
    return environment


def moment(time: datetime | str | None) -> str:
    """A time to the second, UTC."""
    if not time:
        return "–"
    try:
        value = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        return str(time)
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def short(text: str) -> str:
    """A name for an element's id, made of any text."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
