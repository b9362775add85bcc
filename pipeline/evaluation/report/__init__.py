"""A model's report: one HTML file that needs nothing else, with the pictures in it.

It is made once, by the Evaluate step, and published with the model. The drift page (`pipeline.evaluation.drift`) shares
its style.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.data.dataset import Dataset
from pipeline.evaluation.bootstrap import Scored
from processing.contract import Contract


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated: the test rows, what scores them ([n, m] features to [n] scores), both models' scores.

    `theirs` is None without a champion.
    """

    contract: Contract
    rows: Dataset
    score: Callable[[Any], Any]
    ours: Scored
    theirs: Scored | None


def report_of(version: str, evaluated: Evaluated, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> bytes:
    """report.html of a version, from its manifest and what its metrics.json says."""
    from pipeline.evaluation.importance import importances
    from pipeline.evaluation.report import pictures  # Matplotlib, which only who draws needs

    rows, ours, theirs = evaluated.rows, evaluated.ours, evaluated.theirs
    metrics, comparison = results["metrics"], results["comparison"]
    features = importances(evaluated.score, rows, manifest["features"])
    loss = metrics["cost_of_no_alerts"] / metrics["days"]
    return page(
        "report.html",
        version=version,
        manifest=manifest,
        results=results,
        contract=evaluated.contract,
        confusion=confusion(rows, ours),
        importances=features,
        pictures={
            "precision_recall": pictures.precision_recall(rows, ours, theirs),
            "cost_curve": pictures.cost_curve(rows, ours, theirs, evaluated.contract),
            "reliability": pictures.reliability(rows, ours.score),
            "by_day": pictures.by_day(rows, ours),
            "importance": pictures.importance(features),
            "differences": pictures.differences(comparison, loss) if comparison else "",
        },
    )


def confusion(rows: Dataset, one: Scored) -> dict[str, tuple[int, float]]:
    """Rows and their value by what was decided and what it was: caught, missed, needless, passed."""
    alert, fraud = one.score >= one.threshold, rows.y == 1
    parts = {"caught": alert & fraud, "missed": ~alert & fraud, "needless": alert & ~fraud, "passed": ~alert & ~fraud}
    return {name: (int(np.count_nonzero(part)), float(rows.amount[part].sum())) for name, part in parts.items()}


def page(template: str, **values: Any) -> bytes:
    """A page from one of the templates in this folder. What is inserted is escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values).encode()
