"""GET /metrics: what this process has measured, for Prometheus."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from serving.api.context import Context
from serving.api.guard import NEEDS_KEY
from serving.api.problems import error_responses

router = APIRouter()


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={**error_responses(), 200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {}}}},
    dependencies=[NEEDS_KEY],
)
async def metrics(context: Context) -> Response:  # on the loop, because all threads may be waiting for a disk
    """Metrics of this process in Prometheus' text format. They reveal how much fraud there is, so they need admin."""
    return Response(generate_latest(context.service.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
