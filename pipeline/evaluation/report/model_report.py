"""A model's report: one HTML file that contains its charts. The Evaluate step publishes it with the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.distance import LARGE_PSI, MODERATE_PSI
from pipeline.evaluation.report.page import render_page
from processing.contract import Contract


@dataclass(frozen=True)
class ReportInput:
    """What a report is made from: the test rows, the scoring function ([n, m] features to [n] scores), both models'
    scores. `theirs` is None without a champion.
    """

    contract: Contract
    rows: Dataset
    score: Callable[[Any], Any]
    ours: ModelScores
    theirs: ModelScores | None


def model_report(version: str, shown: ReportInput, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> bytes:
    """report.html of a version, with its manifest and the content of its metrics.json."""
    from pipeline.evaluation.importance import importances
    from pipeline.evaluation.report import charts  # loads Matplotlib, which only drawing needs

    rows, ours, theirs = shown.rows, shown.ours, shown.theirs
    metrics, comparison = results["metrics"], results["comparison"]
    features = importances(shown.score, rows, manifest["features"])
    loss = metrics["cost_of_no_alerts"] / metrics["days"]
    return render_page(
        "report.html",
        version=version,
        manifest=manifest,
        results=results,
        contract=shown.contract,
        confusion=confusion(rows, ours),
        moderate=MODERATE_PSI,
        large=LARGE_PSI,
        charts={
            "precision_recall": charts.precision_recall_chart(rows, ours, theirs),
            "cost": charts.cost_chart(rows, ours, theirs, shown.contract),
            "reliability": charts.reliability_chart(rows, ours.score),
            "by_day": charts.day_chart(rows, ours),
            "importance": charts.importance_chart(features),
            "differences": charts.difference_chart(comparison, loss) if comparison else "",
        },
    )


def confusion(rows: Dataset, scores: ModelScores) -> dict[str, tuple[int, float]]:
    """The confusion matrix, in rows and in their value: caught, missed, false_positive, passed."""
    alert, fraud = scores.score >= scores.threshold, rows.y == 1
    parts = {
        "caught": alert & fraud,
        "missed": ~alert & fraud,
        "false_positive": alert & ~fraud,
        "passed": ~alert & ~fraud,
    }
    return {name: (int(np.count_nonzero(part)), float(rows.amount[part].sum())) for name, part in parts.items()}
