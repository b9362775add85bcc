"""POST /v1/score: decide one transaction."""

from fastapi import APIRouter
from pydantic import BaseModel

from serving.api.context import ApiContext, Context
from serving.api.guard import NEEDS_KEY
from serving.api.json_route import JsonRoute
from serving.api.problems import error_responses
from serving.api.responses import ScoreResponse, score_response


async def score(transaction: BaseModel, context: Context) -> ScoreResponse:
    """Decide one transaction. Sent again, the same id gets the same decision and is counted once."""
    return score_response(await context.decide(transaction))


def router(context: ApiContext) -> APIRouter:
    """The route for the transactions of the context's contract."""
    route = JsonRoute(
        "/v1/score",
        score,
        body=context.transaction_model,
        methods=["POST"],
        response_model=ScoreResponse,
        responses=error_responses(409, 413, 415, 422, 503),
        dependencies=[NEEDS_KEY],
    )
    return APIRouter(routes=[route])
