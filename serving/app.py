"""The scoring API: one app over one home."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Body, FastAPI, Query
from pydantic import BaseModel

from pipeline.registry import Registry
from processing import contract as contracts
from processing.contract import HOME_KEY, Contract
from processing.errors import BadInput, NotFound
from processing.features import FeatureSet
from processing.home import Home, open_home
from processing.online import open_store
from serving import logs, problems, replies
from serving.decide import Answer, Decider
from serving.follow import Follower
from serving.requests import RequestIds
from serving.schema import request_model, to_event
from serving.settings import Settings, read_settings

TITLE = "Fraudline"
ABOUT = "Decides whether a card transaction is fraud, and learns later what it was."


@dataclass(frozen=True)
class Service:
    """What the API works with. `close` releases it; used again, it opens what it needs."""

    features: FeatureSet
    decider: Decider
    follower: Follower

    def close(self) -> None:
        if self.decider.store is not None:
            self.decider.store.close()


def open_service(settings: Settings) -> Service:
    """The service over the home of the settings.

    Raises BadInput if the home was not begun by a run, or its online store is of another contract, and
    StoreUnavailable.
    """
    home = open_home(settings.home)
    contract = contract_of(home)
    features = FeatureSet(contract)
    store = open_store(home, contract, timeout=settings.store_timeout_seconds) if contract.entities else None
    follower = Follower(Registry(home), contract, every_seconds=settings.follow_seconds)
    return Service(features, Decider(features, store), follower)


def contract_of(home: Home) -> Contract:
    """The contract of a home that was begun. Unlike the pipeline, a server begins none: BadInput."""
    try:
        text = home.read(HOME_KEY)
    except NotFound:
        raise BadInput(
            f"the home {home.url} has no {HOME_KEY} yet, so there is nothing to serve: run `fraudline run` first, "
            "or set FRAUDLINE_HOME to the home you mean"
        ) from None
    return contracts.parse(text.decode(), home.url_of(HOME_KEY))


def from_environment() -> FastAPI:
    """The app with the settings of the environment: what `uvicorn --factory serving.app:from_environment` runs."""
    logs.configure()
    return create_app(read_settings())


def create_app(settings: Settings) -> FastAPI:
    """The API over the home of the settings. Raises as `open_service` does."""
    service = open_service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.follower.look)  # so that a server with a model is ready as it starts
        following = asyncio.create_task(service.follower.run())
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            service.close()

    app = FastAPI(title=TITLE, description=ABOUT, version="1", lifespan=lifespan)
    app.add_middleware(RequestIds)
    problems.install(app)
    _scoring_routes(app, service)
    _model_routes(app, service)
    return app


# The endpoints are plain functions, so they run in threads: the store and scikit-learn block.


def _scoring_routes(app: FastAPI, service: Service) -> None:
    decider, contract = service.decider, service.features.contract
    log = structlog.get_logger()

    def score(transaction: BaseModel) -> Any:
        """Decide one transaction. The same id sent again gets the same decision, and is counted once."""
        began = time.perf_counter()
        served = service.follower.current()
        answer = decider.answer(*to_event(transaction, service.features), served.model)
        _log_decision(log, answer, began)
        return replies.scored(answer)

    # The contract makes the type, so no annotation could name it.
    score.__annotations__["transaction"] = Annotated[request_model(contract), Body()]
    _post(app, "/v1/score", replies.Scored, 409, 422, 503)(score)

    @_post(app, "/v1/feedback", replies.Recorded, 404, 422, 503)
    def feedback(said: replies.Feedback) -> Any:
        """Tell what a decided transaction turned out to be. The last word stands."""
        decider.report(said.transaction_id, said.is_fraud)
        log.info("feedback", transaction_id=said.transaction_id, is_fraud=said.is_fraud)
        return replies.Recorded(transaction_id=said.transaction_id, is_fraud=said.is_fraud)

    @app.get("/v1/decisions", response_model=replies.PastDecisions, responses=problems.refusals(422, 503))
    def decisions(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Any:
        """The latest decisions, newest first. None for a contract without entities: those are not recorded."""
        return replies.PastDecisions(decisions=[replies.past(made, contract) for made in decider.decisions(limit)])


def _model_routes(app: FastAPI, service: Service) -> None:
    follower = service.follower

    @app.get("/v1/model", response_model=replies.Serving, responses=problems.refusals(503))
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

    @app.get("/health/ready", response_model=replies.Ready, responses=problems.refusals(503))
    async def ready() -> Any:
        """Whether transactions can be scored: a model is loaded."""
        return replies.Ready(model_version=follower.current().model.version, trouble=follower.trouble)


def _post(app: FastAPI, path: str, reply: type[BaseModel], *refused: int) -> Callable[[Any], Any]:
    return app.post(path, response_model=reply, responses=problems.refusals(*refused))


def _log_decision(log: Any, answer: Answer, began: float) -> None:
    made = answer.decision
    log.info(
        "decision",  # whose transaction it was, and what they bought, stays out of the log
        transaction_id=made.event.transaction_id,
        decision=made.decision,
        score=made.score,
        model_version=made.model_version,
        repeated=answer.repeated,
        latency_ms=round((time.perf_counter() - began) * 1e3, 3),
    )
