"""Signing in and out, and the files that every page loads."""

import asyncio

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from processing.errors import NotFound
from serving.api.access import SIGN_IN, delete_cookie, set_cookie
from serving.api.context import Context
from serving.console.pages import FILES, STATIC, page_router, read_form, render

router = page_router()


@router.get(SIGN_IN)
def sign_in_form(request: Request, context: Context, ended: str = "") -> Response:
    """The sign-in page. `ended`: the viewer's key is no longer valid."""
    if context.key_ring.keys is None:
        return RedirectResponse("/", 303)
    return render(request, "sign_in.html", ended=bool(ended))


@router.post(SIGN_IN)
async def sign_in(request: Request, context: Context) -> Response:
    """Store a valid key in the browser."""
    token = (await read_form(request)).get("key", "").strip()
    if context.key_ring.find(token) is None:
        problem = "This key is invalid: it is unknown, was revoked or has expired."
        return await asyncio.to_thread(render, request, "problem.html", 401, problem=problem)
    response = Response(headers={"HX-Redirect": "/"})
    set_cookie(response, token, request)
    return response


@router.post("/console/sign-out")
async def sign_out() -> Response:
    """Remove the key from the browser."""
    response = Response(headers={"HX-Redirect": SIGN_IN})
    delete_cookie(response)
    return response


@router.get("/console/static/{name}")
def static_file(name: str) -> Response:
    """A static file. Browsers may cache it: its URL changes with its content."""
    if name not in FILES:
        raise NotFound(f"the console has no file {name!r}")
    return FileResponse(STATIC / name, headers={"Cache-Control": "public, max-age=604800"})
