"""The overview: the serving model, and the filter form above the table of decisions."""

import functools
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pipeline.registry.registry import REPORT_FILE, Registry
from processing.errors import Damaged, NotFound
from serving.api.access import viewer_of
from serving.api.context import Context
from serving.console.decision_table import filter_values
from serving.console.pages import page_router, render
from serving.decision.follower import UNREADABLE, Follower

router = page_router()


@router.get("/")
def overview(request: Request, context: Context) -> Response:
    """The overview, or the first page that the viewer may see."""
    allowed = viewer_of(request).pages()
    if allowed and allowed[0].path != "/":
        return RedirectResponse(allowed[0].path, 303)
    values = filter_values(request, context.search)
    recorded = context.service.decider.store is not None
    return render(request, "overview.html", **values, recorded=recorded, contract=context.contract)


@router.get("/console/serving")
def serving_model(request: Request, context: Context) -> Response:
    """The part about the serving model, which refreshes itself."""
    service = context.service
    troubles = service.watch.troubles.active()
    return render(request, "serving.html", **_serving_model(service.follower), troubles=troubles)


def _serving_model(follower: Follower) -> dict[str, Any]:
    """The serving model, since when it has been serving and its test metrics; why a newer one was refused."""
    registry, served = follower.registry, follower.serving
    if served is None:
        return {"served": None, "trouble": follower.trouble, "latest": None, "metrics": {}, "report": False}
    version = served.model.version
    try:
        latest = registry.latest()
    except UNREADABLE:  # `trouble` says so
        latest = None
    return {
        "served": served,
        "trouble": follower.trouble,
        "latest": latest if latest and latest.version == version else None,
        "metrics": _metrics_if_readable(registry, version),
        "report": REPORT_FILE in served.model.manifest["files"],
    }


def _metrics_if_readable(registry: Registry, version: str) -> dict[str, Any]:
    """A version's metrics.json; empty if it is damaged, because the model is loaded and keeps serving."""
    try:
        return _metrics(registry, version)
    except (Damaged, NotFound):
        return {}


@functools.lru_cache(maxsize=32)
def _metrics(registry: Registry, version: str) -> dict[str, Any]:
    return registry.metrics(version)  # never changes
