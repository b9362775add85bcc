"""GET /health/live and /health/ready, for load balancers and container schedulers. They need no key."""

from typing import Any

from fastapi import APIRouter

from serving.api.context import Context
from serving.api.problems import error_responses
from serving.api.responses import LiveResponse, ReadyResponse, TroubleResponse

router = APIRouter()


@router.get("/health/live", response_model=LiveResponse)
async def live() -> Any:
    """Whether the process responds."""
    return LiveResponse()


@router.get("/health/ready", response_model=ReadyResponse, responses=error_responses(503, needs_key=False))
async def ready(context: Context) -> Any:
    """Whether a model is loaded, so that transactions can be scored."""
    service = context.service
    return ReadyResponse(
        model_version=service.follower.current().model.version,
        trouble=service.follower.trouble,
        troubles=[TroubleResponse(**trouble._asdict()) for trouble in service.watch.troubles.active()],
    )
