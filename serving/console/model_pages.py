"""The page about models: versions, reports, promotion and rollback. For admin keys."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipeline.registry.registry import REPORT_FILE, Published, Registry
from processing.errors import BadInput, Damaged, FraudlineError
from serving.api.access import viewer_of
from serving.api.context import ApiContext, Context
from serving.api.middleware import POLICY
from serving.api.problems import NotAllowed
from serving.console.pages import page_router, read_form, render
from serving.decision.follower import Follower
from serving.decision.loaded_model import check_loadable

# A report contains its styles and charts, and runs no scripts.
REPORT_POLICY = {
    POLICY.decode(): "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
}

router = page_router()


@router.get("/console/versions")
def versions_page(request: Request, context: Context) -> Response:
    """The page with all versions."""
    return render(request, "versions.html", **_versions(context.service.follower.registry), done="", problem="")


@router.post("/console/promote")
async def promote(request: Request, context: Context) -> Response:
    """Promote a version, with a reason."""
    return await asyncio.to_thread(_promote, request, context, await read_form(request))


@router.post("/console/rollback")
async def roll_back(request: Request, context: Context) -> Response:
    """Return to the previous version, if the one on the viewer's page is still serving."""
    return await asyncio.to_thread(_roll_back, request, context, await read_form(request))


@router.get("/report")
def serving_report(context: Context) -> Response:
    """The report of the serving model."""
    return _report(context.service.follower.registry, context.service.follower.current().model.version)


@router.get("/report/{version}")
def version_report(version: str, context: Context) -> Response:
    """The report of a version."""
    return _report(context.service.follower.registry, version)


def _report(registry: Registry, version: str) -> Response:
    return HTMLResponse(registry.read_file(version, REPORT_FILE), headers=REPORT_POLICY)


def _promote(request: Request, context: ApiContext, typed: dict[str, str]) -> HTMLResponse:
    follower = context.service.follower
    reason = typed.get("reason", "").strip()

    def check(version: Published) -> None:
        _check_loadable(follower, version)

    try:
        if not reason:
            raise BadInput("give a reason, for whoever looks at this later")
        latest = follower.registry.promote(
            typed.get("version", ""),
            by=viewer_of(request).author,
            reason=reason,
            force=typed.get("force") == "yes",
            approved=True,
            check=check,
        )
    except FraudlineError as error:
        return _not_changed(request, follower, error, "fraudline models promote VERSION")
    return _changed(request, follower, latest.version)


def _roll_back(request: Request, context: ApiContext, typed: dict[str, str]) -> HTMLResponse:
    follower = context.service.follower

    def check(version: Published) -> None:
        _check_loadable(follower, version)

    try:
        latest = follower.registry.latest()
        if latest is not None and typed.get("serving") != latest.version:  # the page was out of date
            raise NotAllowed(f"{latest.version} is now serving; look again before you roll it back")
        latest = follower.registry.rollback(by=viewer_of(request).author, check=check)
    except FraudlineError as error:
        return _not_changed(request, follower, error, "fraudline models rollback")
    return _changed(request, follower, latest.version)


def _check_loadable(follower: Follower, version: Published) -> None:
    check_loadable(version, follower.contract, packed_only=follower.packed_only)


def _changed(request: Request, follower: Follower, version: str) -> HTMLResponse:
    done = f"Promoted {version}; servers switch to it within seconds."
    return render(request, "versions_part.html", **_versions(follower.registry), done=done, problem="")


def _not_changed(request: Request, follower: Follower, error: FraudlineError, command: str) -> HTMLResponse:
    problem = (
        f"Nothing was changed: {error}. If this server has no permission to change models, as in AWS, use `{command}`."
    )
    return render(request, "versions_part.html", 409, **_versions(follower.registry), done="", problem=problem)


def _versions(registry: Registry) -> dict[str, Any]:
    versions = registry.versions()
    try:
        latest, damage = registry.latest(), ""
    except Damaged as error:
        latest, damage = None, str(error)
    with_report = {each.version for each in versions if each.has_report}
    return {"versions": versions, "latest": latest, "damage": damage, "with_report": with_report}
