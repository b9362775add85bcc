"""The pages about runs and drift. For admin keys."""

import json
import subprocess
import threading
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from processing.errors import BadInput, FraudlineError, NotFound
from processing.processes import children
from processing.storage.home import Home
from serving.api.context import Context
from serving.api.problems import TooManyRequests
from serving.console.pages import page_router, render

RUNS = 20  # shown, the latest
DRIFT_SECONDS = 60.0

router = page_router()
_measuring = threading.Lock()


@router.get("/console/runs")
def runs_page(request: Request, context: Context) -> Response:
    """The latest runs and the data they took in."""
    try:
        return render(request, "runs.html", runs=_runs(context.service.follower.registry.home), problem="")
    except FraudlineError as error:
        problem = f"This server has no permission to read the runs: {error}"
        return render(request, "runs.html", runs=[], problem=problem)


@router.get("/console/drift")
def drift_page(request: Request) -> Response:
    """The page about drift, which loads the measurement."""
    return render(request, "drift.html")


@router.get("/console/drift/measured")
def measured_drift(request: Request, context: Context) -> Response:
    """The part with the drift as of now."""
    if not _measuring.acquire(blocking=False):
        raise TooManyRequests("drift is already being measured; retry in a moment", 5.0)
    try:
        return render(request, "drift_part.html", drift=_measure_drift(context.service.follower.registry.home))
    finally:
        _measuring.release()


def _runs(home: Home) -> list[dict[str, Any]]:
    """The latest runs, newest first: name, outcome (on AWS empty, because SageMaker has it), and data read."""
    return [
        {"name": name, "outcome": _document(home, name, "outcome.json"), "data": _document(home, name, "features.json")}
        for name in home.folders("runs/")[: -RUNS - 1 : -1]
    ]


def _document(home: Home, run: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(home.read(f"runs/{run}/{name}"))
    except (NotFound, ValueError):  # not written yet, or not by us
        return {}
    return document if isinstance(document, dict) else {}


def _measure_drift(home: Home) -> dict[str, Any]:
    """Measure drift in another process, because it takes seconds of processor time, and memory."""
    variables = {name: value for name, value in children.child_environment().items() if name != "FRAUDLINE_API_KEYS"}
    command = children.module_command("pipeline.evaluation.drift", "--home", home.url)
    try:
        result = children.run(command, timeout=DRIFT_SECONDS, env=variables)
    except subprocess.TimeoutExpired:
        raise BadInput(f"measuring drift took longer than {DRIFT_SECONDS:.0f} s; use `fraudline drift`") from None
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"the process ended with exit code {result.returncode}"]
        raise BadInput(f"drift could not be measured: {lines[-1].removeprefix('error: ')}")
    drift: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return drift
