"""POST /v1/feedback: report what a transaction turned out to be."""

from fastapi import APIRouter

from serving.api.context import Context
from serving.api.guard import NEEDS_KEY
from serving.api.json_route import JsonRoute
from serving.api.problems import error_responses
from serving.api.responses import Feedback, FeedbackResponse

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/v1/feedback",
    response_model=FeedbackResponse,
    responses=error_responses(404, 413, 415, 422, 503),
    dependencies=[NEEDS_KEY],
)
async def feedback(feedback: Feedback, context: Context) -> FeedbackResponse:
    """Report what a decided transaction turned out to be. The latest report counts."""
    return await context.record_feedback(feedback)
