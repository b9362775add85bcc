"""GET /v1/model: the serving model."""

from typing import Any

from fastapi import APIRouter

from serving.api.context import Context
from serving.api.guard import NEEDS_KEY
from serving.api.problems import error_responses
from serving.api.responses import ModelResponse

router = APIRouter()


@router.get("/v1/model", response_model=ModelResponse, responses=error_responses(503), dependencies=[NEEDS_KEY])
def model(context: Context) -> Any:
    """The serving model: its manifest, when it was promoted, and since when it has been serving here."""
    follower = context.service.follower
    served = follower.current()
    return ModelResponse(
        version=served.model.version,
        promoted_at=served.promoted_at,
        serving_since=served.since,
        trouble=follower.trouble,
        manifest=served.model.manifest,
    )
