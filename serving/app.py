"""The scoring API: one app over one home."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import Body, FastAPI, Query, Security
from fastapi.responses import PlainTextResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel
from starlette.requests import Request

from processing.storage.open import open_home
from serving import logs
from serving.api import problems, replies
from serving.api.guard import Guard, KeyRing, Rates
from serving.api.json_route import JsonRoute
from serving.api.lookup import Listing, Lookup, said_once
from serving.api.request import request_model, to_event
from serving.api.request_log import Requests
from serving.batch import rows as batch
from serving.console import routes as console
from serving.decision.decide import Answer, Asked
from serving.decision.follow import Served
from serving.decision.metrics import EmbeddedMetrics, Metrics
from serving.decision.service import Service, open_service
from serving.settings import Settings, keys_file, read_settings

TITLE = "Fraudline"
SWITCH_SECONDS = 0.0005  # for which a thread that loads a model or reads a batch may keep the requests from going on
KEY = Security(  # told in the OpenAPI document; `serving.api.guard` is what asks for it
    HTTPBearer(auto_error=False, scheme_name="key", description="A key of `fraudline keys add`, if the API has keys")
)
ABOUT = "Decides whether a card transaction is fraud, and learns later what it was."


def from_environment() -> FastAPI:
    """The app with the settings of the environment: what `uvicorn --factory serving.app:from_environment` runs."""
    sys.setswitchinterval(SWITCH_SECONDS)
    if parent := multiprocessing.parent_process():  # this is one of several workers
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    logs.configure()
    return create_app(read_settings())


def _end_with(parent: Any) -> None:
    """Stop serving when the process that started the workers is gone, also when it was killed."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def create_app(settings: Settings) -> FastAPI:
    """The API over the home of the settings. Raises as `open_service` does."""
    service = open_service(settings)
    keys = settings.api_keys.get_secret_value() if settings.api_keys else None
    ring, rates = KeyRing(keys, keys_file(open_home(settings.home))), Rates(settings.requests_per_second)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.follower.look)  # so that a server with a model is ready as it starts
        await asyncio.to_thread(service.watch.look)  # and answers nothing from a store that is lost
        tasks = [asyncio.create_task(run()) for run in (service.follower.run, service.watch.run, ring.run)]
        if settings.embedded_metrics_seconds:
            tasks.append(asyncio.create_task(_tell(service.metrics, settings.embedded_metrics_seconds)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.close()

    app = FastAPI(title=TITLE, description=ABOUT, version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, ring=ring, rates=rates)
    app.add_middleware(Requests, metrics=service.metrics)  # the outermost: refusals of the guard have its headers too
    problems.install(app)
    desk = _scoring_routes(app, service, ring, rates, settings)
    _model_routes(app, service)
    _metrics_route(app, service.metrics)
    console.install(app, desk)
    return app


def _scoring_routes(app: FastAPI, service: Service, ring: KeyRing, rates: Rates, settings: Settings) -> console.Desk:
    decider, contract = service.decider, service.features.contract
    log, request = structlog.get_logger(), request_model(contract)

    async def decide(transaction: BaseModel, served: Served) -> Answer:
        began = time.perf_counter()
        event, extras = to_event(transaction, service.features)
        answer = await service.decisions.answer(Asked(event, extras, served.model))
        service.metrics.decided(answer)
        service.watch.decided(event.time_us)
        _log_decision(log, answer, began)
        return answer

    async def decide_now(transaction: BaseModel) -> Answer:
        return await decide(transaction, service.follower.current())

    async def score(transaction: BaseModel) -> replies.Scored:
        """Decide one transaction. The same id sent again gets the same decision, and is counted once."""
        return replies.scored(await decide_now(transaction))

    async def feedback(said: replies.Feedback) -> replies.Recorded:
        """Tell what a decided transaction turned out to be. The last word stands."""
        await service.decisions.report(said.transaction_id, said.is_fraud)
        log.info("feedback", transaction_id=said.transaction_id, is_fraud=said.is_fraud)
        return replies.Recorded(transaction_id=said.transaction_id, is_fraud=said.is_fraud)

    # The contract makes the type, so no annotation could name it.
    score.__annotations__["transaction"] = Annotated[request, Body()]
    at_once = service.decisions.rows_at_once
    batch.install(app, request, decide, at_once, service.follower, rates, settings, dependencies=[KEY])
    for path, endpoint, reply, status in (
        ("/v1/feedback", feedback, replies.Recorded, 404),
        ("/v1/score", score, replies.Scored, 409),
    ):
        route = JsonRoute(
            path,
            endpoint,
            methods=["POST"],
            response_model=reply,
            responses=problems.refusals(status, 413, 415, 422, 503),
            dependencies=[KEY],
            most_bytes=settings.most_bytes,
        )
        app.router.routes.insert(0, route)  # the one that matters is looked for first

    lookup = Lookup(contract, service.follower.registry.home.url, decider.search)

    def decisions(asked: Listing, request: Request) -> Any:
        """The decisions that meet all filters, newest first. None for a contract without entities: those are not
        recorded."""
        said_once(request.query_params)
        page = lookup.page(asked)
        return replies.PastDecisions(
            decisions=[replies.past(made, contract) for made in page.decisions],
            next=lookup.cursor(asked, page.last) if page.more else None,
            reached=page.reached,
        )

    decisions.__annotations__["asked"] = Annotated[lookup.request, Query()]
    app.get(
        "/v1/decisions", response_model=replies.PastDecisions, responses=problems.refusals(422, 503), dependencies=[KEY]
    )(decisions)
    return console.Desk(contract, request, decide_now, feedback, decider, lookup, service.follower, ring, service.watch)


def _model_routes(app: FastAPI, service: Service) -> None:
    follower = service.follower

    @app.get("/v1/model", response_model=replies.Serving, responses=problems.refusals(503), dependencies=[KEY])
    def model() -> Any:
        """The manifest of the model that serves, when it was promoted, and since when it serves here."""
        served = follower.current()
        return replies.Serving(
            version=served.model.version,
            promoted_at=served.promoted_at,
            serving_since=served.since,
            trouble=follower.trouble,
            manifest=served.model.manifest,
        )

    @app.get("/health/live", response_model=replies.Live)
    async def live() -> Any:
        """Whether the process answers at all."""
        return replies.Live()

    @app.get("/health/ready", response_model=replies.Ready, responses=problems.refusals(503, guarded=False))
    async def ready() -> Any:
        """Whether transactions can be scored: a model is loaded."""
        version, standing = follower.current().model.version, service.watch.troubles.standing()
        troubles = [replies.Trouble(**trouble._asdict()) for trouble in standing]
        return replies.Ready(model_version=version, trouble=follower.trouble, troubles=troubles)


def _metrics_route(app: FastAPI, metrics: Metrics) -> None:
    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={**problems.refusals(), 200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {}}}},
        dependencies=[KEY],
    )
    async def told() -> Response:  # on the loop: threads may all wait for a disk
        """What this process measured, in Prometheus' text format. For admin keys: it tells how much fraud there is."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _tell(metrics: Metrics, every_seconds: float) -> None:
    """Write a line of embedded metrics every so often."""
    embedded, lines = EmbeddedMetrics(metrics), logs.Lines(sys.stdout)
    while True:
        await asyncio.sleep(every_seconds)
        await asyncio.to_thread(lines.msg, json.dumps(embedded.line()))


def _log_decision(log: Any, answer: Answer, began: float) -> None:
    made = answer.decision
    log.info(
        "decision",  # whose transaction it was, and what they bought, stays out of the log
        transaction_id=made.event.transaction_id,
        decision=made.decision,
        score=made.score,
        model_version=made.model_version,
        repeated=answer.repeated,
        behaviour=answer.behaviour,
        latency_ms=round((time.perf_counter() - began) * 1e3, 3),
    )
