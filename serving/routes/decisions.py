"""GET /v1/decisions: search the decisions on record."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from serving.api.context import ApiContext, Context
from serving.api.decision_search import check_no_duplicates
from serving.api.guard import NEEDS_KEY
from serving.api.json_route import invalid_request
from serving.api.problems import error_responses
from serving.api.responses import DecisionsResponse, listed_decision


def decisions(request: Request, context: Context) -> Any:
    """Decisions that match all filters, newest first. Without entities in the contract, none are recorded."""
    search = context.search
    try:
        query = search.query_model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise invalid_request(error, "query") from None
    check_no_duplicates(request.query_params)
    page = search.page(query)
    return DecisionsResponse(
        decisions=[listed_decision(decision, context.contract) for decision in page.decisions],
        next=search.cursor(query, page.last) if page.more else None,
        reached=page.reached,
    )


def router(context: ApiContext) -> APIRouter:
    """The route with the filters of the context's contract."""
    router = APIRouter()
    router.add_api_route(
        "/v1/decisions",
        decisions,
        response_model=DecisionsResponse,
        responses=error_responses(422, 503),
        dependencies=[NEEDS_KEY],
        openapi_extra={"parameters": context.search.openapi_parameters()},
    )
    return router
