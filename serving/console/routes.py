"""The console's pages for who scores by hand and looks at decisions; `operation` has those about models and data."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from processing.contract import Contract
from processing.errors import FraudlineError, NotFound
from serving.api import replies
from serving.api.access import SIGN_IN, by_browser, forget, keep, refused, viewer_of
from serving.api.guard import KeyRing
from serving.api.lookup import Lookup
from serving.api.problems import field_problems, http_problem, status_of
from serving.console import documentation, form, operation, stream
from serving.console.pages import PageRoute, posted, rendered, static
from serving.decision.decide import Answer, Decider
from serving.decision.follow import Follower
from serving.decision.watch import StoreWatch


@dataclass(frozen=True)
class Desk:
    """What the pages work with: the API's own ways to decide a transaction and to take in what it turned out to be."""

    contract: Contract
    request: type[BaseModel]
    decide: Callable[[Any], Awaitable[Answer]]
    report: Callable[[replies.Feedback], Awaitable[replies.Recorded]]
    decider: Decider
    lookup: Lookup
    follower: Follower
    ring: KeyRing
    watch: StoreWatch


def install(app: FastAPI, desk: Desk) -> None:
    """Serve the console. Its routes come after those of the API, so that none of them waits for these."""
    pages = APIRouter(route_class=PageRoute, include_in_schema=False)
    _looking(pages, desk)
    _deciding(pages, desk)
    _signing_in(pages, desk.ring)
    operation.install(pages, desk.follower)
    documentation.install(pages, app)
    app.include_router(pages)
    app.add_exception_handler(HTTPException, _no_page)


def _no_page(request: Request, error: Exception) -> Response:
    """The answer to an address that nothing has: to a person's browser a page that leads on, else as the API has it."""
    if isinstance(error, HTTPException) and error.status_code == 404 and by_browser(request.headers):
        return refused(request.scope, NotFound(f"there is no page {request.url.path}"))
    return http_problem(request, error)


def _looking(pages: APIRouter, desk: Desk) -> None:
    stream.install(pages, desk.lookup)

    @pages.get("/")
    def overview(request: Request) -> Response:
        allowed = viewer_of(request).pages()
        if allowed and allowed[0].path != "/":
            return RedirectResponse(allowed[0].path, 303)
        shown = stream.asked_for(request, desk.lookup)
        recorded = desk.decider.store is not None
        return rendered(request, "overview.html", **shown, recorded=recorded, contract=desk.contract)

    @pages.get("/console/serving")
    def serving(request: Request) -> Response:
        troubles = desk.watch.troubles.standing()
        return rendered(request, "serving.html", **operation.serving(desk.follower), troubles=troubles)


def _deciding(pages: APIRouter, desk: Desk) -> None:
    @pages.get("/console/score")
    def empty_form(request: Request) -> Response:
        return rendered(request, "score.html", **_form(desk.contract))

    @pages.post("/console/score")
    async def score(request: Request) -> Response:
        typed = await posted(request)
        try:
            answer = await desk.decide(desk.request.model_validate(form.row_of(desk.contract, typed)))
        except ValidationError as error:
            wrong = {one.field: one.message for one in field_problems(error.errors(include_url=False))}
            shown = _form(desk.contract, typed, wrong=wrong, problem="This was not decided: see the marked fields.")
            return await asyncio.to_thread(rendered, request, "scoring.html", 422, **shown)
        except FraudlineError as error:
            status = status_of(error)
            if status is None:
                raise
            shown = _form(desk.contract, typed, problem=f"This was not decided: {error}")
            return await asyncio.to_thread(rendered, request, "scoring.html", status, **shown)
        if desk.contract.id:
            typed[desk.contract.id] = form.fresh_id()
        shown = _form(desk.contract, typed, answer=replies.scored(answer), recorded=answer.behaviour == "known")
        return await asyncio.to_thread(rendered, request, "scoring.html", **shown)

    @pages.get("/console/feedback")
    def feedback_form(request: Request) -> Response:
        return rendered(request, "feedback.html")

    @pages.post("/console/feedback")
    async def feedback(request: Request) -> Response:
        typed = await posted(request)
        told = {"true": True, "false": False}.get(typed.get("is_fraud", ""))
        try:
            said = replies.Feedback.model_validate(
                {"transaction_id": typed.get("transaction_id", ""), "is_fraud": told}
            )
        except ValidationError as error:
            (first, *_) = field_problems(error.errors(include_url=False))
            return await asyncio.to_thread(rendered, request, "problem.html", 422, problem=first.message)
        done = await desk.report(said)
        return await asyncio.to_thread(rendered, request, "label.html", made=done, told=True)


def _signing_in(pages: APIRouter, ring: KeyRing) -> None:
    @pages.get(SIGN_IN)
    def sign_in(request: Request, ended: str = "") -> Response:
        if ring.keys is None:
            return RedirectResponse("/", 303)
        return rendered(request, "sign_in.html", ended=bool(ended))

    @pages.post(SIGN_IN)
    async def signed_in(request: Request) -> Response:
        token = (await posted(request)).get("key", "").strip()
        if ring.find(token) is None:
            said = "That key is not valid: it is unknown, was revoked, or has expired."
            return await asyncio.to_thread(rendered, request, "problem.html", 401, problem=said)
        reply = Response(headers={"HX-Redirect": "/"})
        keep(reply, token, request)
        return reply

    @pages.post("/console/sign-out")
    async def sign_out() -> Response:
        reply = Response(headers={"HX-Redirect": SIGN_IN})
        forget(reply)
        return reply

    @pages.get("/console/static/{name}")
    def file(name: str) -> Response:
        return static(name)


def _form(contract: Contract, typed: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"wrong": {}, "problem": "", "answer": None, "recorded": False}
    return {"fields": form.fields(contract, typed), **empty, **more}
