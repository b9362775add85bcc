"""The decision service without the API around it."""

import json
import subprocess
import sys

import pytest

from processing.store.decisions import Event
from serving.decision.rules import decide

WEB = {"fastapi", "jinja2", "starlette", "uvicorn"}


def test_the_service_needs_no_web_framework() -> None:
    """So a message consumer can decide transactions with `open_service` alone."""
    script = "import json, sys, serving.decision.service; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(process.stdout)}
    assert not loaded & WEB


@pytest.mark.parametrize(("score", "outcome"), [(0.0, "legit"), (0.499, "legit"), (0.5, "fraud"), (1.0, "fraud")])
def test_a_score_at_or_above_the_threshold_is_flagged(score: float, outcome: str) -> None:
    assert decide(Event("a", 0, 100, ()), score, 0.5) == outcome
