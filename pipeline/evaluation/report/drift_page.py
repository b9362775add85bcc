"""The drift page: a measured drift as one HTML file."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.distance import MEASURES
from pipeline.evaluation.drift import FEWEST_UNSAMPLED
from pipeline.evaluation.report.page import render_page


def render_drift_page(drift: Mapping[str, Any]) -> bytes:
    """The page of what `pipeline.evaluation.drift.measure_drift` returned."""
    return render_page("drift.html", drift=drift, measures=MEASURES, fewest=FEWEST_UNSAMPLED)
