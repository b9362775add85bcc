"""What the routes and the console of one app share."""

import time
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from pydantic import BaseModel

from processing.contract import Contract
from processing.contracts.home_contract import former_columns
from processing.storage.open import open_home
from serving.api import responses
from serving.api.decision_search import DecisionSearch
from serving.api.key_ring import KeyRing, RateLimiter
from serving.api.transaction import to_event, transaction_model
from serving.decision.decider import Answer, DecisionRequest
from serving.decision.follower import ServingModel
from serving.decision.service import Service, open_service
from serving.settings import Settings, keys_file


@dataclass(frozen=True)
class ApiContext:
    """The service of an app and what belongs to it. `transaction_model` is the contract's request model."""

    settings: Settings
    service: Service
    transaction_model: type[BaseModel]
    search: DecisionSearch
    key_ring: KeyRing
    rate_limiter: RateLimiter
    log: Any  # kept here, because structlog would assemble a logger for each line

    @property
    def contract(self) -> Contract:
        """The contract of the home."""
        return self.service.features.contract

    async def decide(self, transaction: BaseModel, served: ServingModel | None = None) -> Answer:
        """Decide a validated transaction with the serving model, or the given one; log and measure it."""
        began, service = time.perf_counter(), self.service
        model = (served or service.follower.current()).model
        event, extras = to_event(transaction, self.contract, model.features)
        answer = await service.decisions.answer(DecisionRequest(event, extras, model))
        service.metrics.count_decision(answer)
        service.watch.note_decision(event.time_us)
        decision = answer.decision
        self.log.info(
            "decision",  # the customer, the terminal and the amount stay out of the log
            transaction_id=event.transaction_id,
            decision=decision.decision,
            score=decision.score,
            model_version=decision.model_version,
            repeated=answer.repeated,
            behaviour=answer.behaviour,
            latency_ms=round((time.perf_counter() - began) * 1e3, 3),
        )
        return answer

    async def record_feedback(self, feedback: responses.Feedback) -> responses.FeedbackResponse:
        """Record what a decided transaction turned out to be. Raises NotFound for one that was not decided here."""
        await self.service.decisions.report(feedback.transaction_id, feedback.is_fraud)
        self.log.info("feedback", transaction_id=feedback.transaction_id, is_fraud=feedback.is_fraud)
        return responses.FeedbackResponse(transaction_id=feedback.transaction_id, is_fraud=feedback.is_fraud)


def open_context(settings: Settings) -> ApiContext:
    """The context for the home of the settings. Raises as `open_service` does, and BadInput for unreadable keys."""
    service = open_service(settings)
    contract = service.features.contract
    keys = settings.api_keys.get_secret_value() if settings.api_keys else None
    return ApiContext(
        settings,
        service,
        transaction_model(contract, former_columns(open_home(settings.home), contract)),
        DecisionSearch(contract, service.follower.registry.home.url, service.decider.search),
        KeyRing(keys, keys_file(open_home(settings.home))),
        RateLimiter(settings.requests_per_second),
        structlog.get_logger(),
    )


async def context_of(request: Request) -> ApiContext:
    """The context of the app that received a request. (A plain function would run in a thread.)"""
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(context_of)]
