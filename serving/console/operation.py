"""The console's pages about models and data: versions, reports, promotion, runs, drift. For admin keys."""

import asyncio
import functools
import json
import subprocess
import threading
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipeline.registry.registry import REPORT_FILE, Published, Registry
from processing.errors import BadInput, Damaged, FraudlineError, NotFound
from processing.processes import children
from processing.storage.home import Home
from serving.api.access import viewer_of
from serving.api.problems import NotAllowed, TooOften
from serving.api.request_log import POLICY
from serving.console.pages import PageRoute, posted, rendered
from serving.decision.follow import UNREADABLE, Follower
from serving.decision.loaded_model import check_loadable

RUNS = 20  # the latest, on the page
DRIFT_SECONDS = 60.0
# A report has its style and its pictures in itself, and runs nothing.
REPORT_POLICY = {
    POLICY.decode(): "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
}


def install(pages: APIRouter, follower: Follower) -> None:
    """Add the pages to the console's routes."""
    assert pages.route_class is PageRoute  # it is what keeps other sites from promoting
    registry = follower.registry

    def loadable(found: Published) -> None:
        check_loadable(found, follower.contract, packed_only=follower.packed_only)

    def versions_part(request: Request, status: int = 200, **said: str) -> HTMLResponse:
        return rendered(
            request, "versions_part.html", status, **_versions(registry), **{"done": "", "problem": "", **said}
        )

    @pages.get("/console/versions")
    def versions(request: Request) -> Response:
        return rendered(request, "versions.html", **_versions(registry), done="", problem="")

    @pages.post("/console/promote")
    async def promote(request: Request) -> Response:
        typed, who = await posted(request), viewer_of(request).caller
        reason = typed.get("reason", "").strip()

        def change() -> HTMLResponse:
            try:
                if not reason:
                    raise BadInput("say why, so that whoever comes after knows")
                latest = registry.promote(
                    typed.get("version", ""),
                    by=who,
                    reason=reason,
                    force=typed.get("force") == "yes",
                    approved=True,
                    check=loadable,
                )
            except FraudlineError as error:
                return versions_part(request, 409, problem=_undone(error, "fraudline models promote VERSION"))
            return versions_part(request, done=f"{latest.version} was promoted; servers follow within seconds.")

        return await asyncio.to_thread(change)

    @pages.post("/console/rollback")
    async def rollback(request: Request) -> Response:
        typed, who = await posted(request), viewer_of(request).caller

        def change() -> HTMLResponse:
            try:
                latest = registry.latest()
                if latest is not None and typed.get("serving") != latest.version:  # not what the page showed
                    raise NotAllowed(f"{latest.version} serves by now; look again before you roll it back")
                latest = registry.rollback(by=who, check=loadable)
            except FraudlineError as error:
                return versions_part(request, 409, problem=_undone(error, "fraudline models rollback"))
            return versions_part(request, done=f"{latest.version} was promoted again; servers follow within seconds.")

        return await asyncio.to_thread(change)

    @pages.get("/report")
    def report_of_serving() -> Response:
        return HTMLResponse(registry.read_file(follower.current().model.version, REPORT_FILE), headers=REPORT_POLICY)

    @pages.get("/report/{version}")
    def report(version: str) -> Response:
        return HTMLResponse(registry.read_file(version, REPORT_FILE), headers=REPORT_POLICY)

    @pages.get("/console/runs")
    def runs(request: Request) -> Response:
        try:
            return rendered(request, "runs.html", runs=_runs(registry.home), problem="")
        except FraudlineError as error:
            said = f"Runs are not available to this server, which may not read them: {error}"
            return rendered(request, "runs.html", runs=[], problem=said)

    @pages.get("/console/drift")
    def drift(request: Request) -> Response:
        return rendered(request, "drift.html")

    measuring = threading.Lock()

    @pages.get("/console/drift/measured")
    def drift_measured(request: Request) -> Response:
        if not measuring.acquire(blocking=False):
            raise TooOften("drift is being measured already; try again in a moment", 5.0)
        try:
            return rendered(request, "drift_part.html", found=_drift(registry.home))
        finally:
            measuring.release()


def serving(follower: Follower) -> dict[str, Any]:
    """Which model serves, since when, and how good it was on its test rows; why a newer one does not."""
    registry, served = follower.registry, follower.served
    if served is None:
        return {"served": None, "trouble": follower.trouble, "latest": None, "measured": {}, "report": False}
    version = served.model.version
    try:
        latest = registry.latest()
    except UNREADABLE:  # `trouble` tells it
        latest = None
    return {
        "served": served,
        "trouble": follower.trouble,
        "latest": latest if latest and latest.version == version else None,
        "measured": _measured(registry, version),
        "report": REPORT_FILE in served.model.manifest["files"],
    }


def _measured(registry: Registry, version: str) -> dict[str, Any]:
    """A version's metrics.json; empty if it is damaged: the model is loaded, and serves on."""
    try:
        return _metrics(registry, version)
    except (Damaged, NotFound):
        return {}


@functools.lru_cache(maxsize=32)
def _metrics(registry: Registry, version: str) -> dict[str, Any]:
    return registry.metrics(version)  # never changes


def _versions(registry: Registry) -> dict[str, Any]:
    listed = registry.versions()
    try:
        latest, damage = registry.latest(), ""
    except Damaged as error:
        latest, damage = None, str(error)
    with_report = {one.version for one in listed if one.has_report}
    return {"versions": listed, "latest": latest, "damage": damage, "with_report": with_report}


def _undone(error: FraudlineError, command: str) -> str:
    return (
        f"Nothing was changed: {error}. Where this server may not change models, as in the cloud, "
        f"the same is done with `{command}`."
    )


def _runs(home: Home) -> list[dict[str, Any]]:
    """The latest runs, newest first: name, outcome (empty on AWS, where SageMaker keeps it), what was taken in."""
    return [
        {"name": name, "outcome": _document(home, name, "outcome.json"), "data": _document(home, name, "features.json")}
        for name in home.folders("runs/")[: -RUNS - 1 : -1]
    ]


def _document(home: Home, run: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(home.read(f"runs/{run}/{name}"))
    except (NotFound, ValueError):  # not there yet, or not ours
        return {}
    return document if isinstance(document, dict) else {}


def _drift(home: Home) -> dict[str, Any]:
    """The drift, measured by a process of its own: it takes seconds of processor time and memory
    that the scoring of transactions is not to wait for, or to share."""
    environment = {name: value for name, value in children.child_environment().items() if name != "FRAUDLINE_API_KEYS"}
    try:
        done = children.run(
            children.module_command("pipeline.evaluation.drift", "--home", home.url),
            timeout=DRIFT_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"drift was not measured within {DRIFT_SECONDS:.0f} s; try `fraudline drift`") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise BadInput(f"drift could not be measured: {said.removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
