"""The scoring API as a FastAPI app, over one home."""

import asyncio
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from processing.storage.open import open_home
from serving import logs
from serving.api.context import ApiContext, open_context
from serving.api.contract_follower import ContractFollower
from serving.api.guard import Guard
from serving.api.middleware import RequestMiddleware
from serving.api.problems import add_error_handlers
from serving.console.pages import add_not_found_page
from serving.console.routes import ROUTERS as CONSOLE
from serving.decision.embedded_metrics import EmbeddedMetrics
from serving.decision.serving_metrics import ServingMetrics
from serving.routes import batch, decisions, feedback, health, prometheus, scoring, serving_model
from serving.settings import Settings, read_settings

TITLE = "Fraudline"
DESCRIPTION = "Decides whether a card transaction is fraud, and takes feedback on what it turned out to be."
SWITCH_SECONDS = 0.0005  # how long a thread that loads a model or parses a batch may hold up the requests


CONTRACT_CHECKS = 10  # checks of the serving model for each of the contract, which changes more rarely


def from_environment() -> ContractFollower:
    """The app with the settings of the environment, for `uvicorn --factory serving.app:from_environment`."""
    sys.setswitchinterval(SWITCH_SECONDS)
    if parent := multiprocessing.parent_process():  # this is one of several workers
        threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    logs.configure()
    return following_app(read_settings())


def following_app(settings: Settings) -> ContractFollower:
    """The API over the home of the settings, which follows the home's contract. Raises as `open_context` does."""
    every = CONTRACT_CHECKS * settings.follow_seconds
    return ContractFollower(open_home(settings.home), functools.partial(create_app, settings), every_seconds=every)


def _stop_with(parent: Any) -> None:
    """Stop serving when the parent process ends, even if it was killed."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def create_app(settings: Settings) -> FastAPI:
    """The API over the home of the settings. Raises as `open_context` does."""
    context = open_context(settings)
    routers = [
        scoring.router(context),  # first, because routes are tried in order
        feedback.router,
        batch.router(context),
        decisions.router(context),
        serving_model.router,
        health.router,
        prometheus.router,
        *CONSOLE,
    ]
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version="1",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        # `include_router` would match each request twice, and replace what JsonRoute does.
        routes=[route for router in routers for route in router.routes],
    )
    app.state.context = context
    app.add_middleware(Guard, key_ring=context.key_ring, rate_limiter=context.rate_limiter)
    app.add_middleware(RequestMiddleware, metrics=context.service.metrics)  # outermost: the guard's responses pass too
    add_error_handlers(app)
    add_not_found_page(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: ApiContext = app.state.context
    service, seconds = context.service, context.settings.embedded_metrics_seconds
    # Before the first request: a server that has a model is ready at once, and a lost store is noticed.
    await asyncio.to_thread(service.follower.check)
    await asyncio.to_thread(service.watch.check)
    tasks = [asyncio.create_task(run()) for run in (service.follower.run, service.watch.run, context.key_ring.run)]
    if seconds:
        tasks.append(asyncio.create_task(_log_metrics(service.metrics, seconds)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.close()


async def _log_metrics(metrics: ServingMetrics, every_seconds: float) -> None:
    """Write a line of embedded metrics at this interval."""
    embedded, writer = EmbeddedMetrics(metrics), logs.LineWriter(sys.stdout)
    while True:
        await asyncio.sleep(every_seconds)
        await asyncio.to_thread(writer.msg, json.dumps(embedded.line()))
