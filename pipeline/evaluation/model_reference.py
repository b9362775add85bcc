"""A model's reference: the distributions of its features, its scores and the labels on its test rows.

A version's `reference.json` holds it. Later rows are compared with it: the next challenger's
(`pipeline.evaluation.checks`) and those scored in service (`pipeline.evaluation.drift`). It is made of the test rows,
not the training rows: they are the latest, complete, and the model has not seen them, so its scores are as in service.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.evaluation.chance import Chance, chance
from pipeline.evaluation.distance import divergence
from pipeline.evaluation.feature_strength import CALENDAR, strengths
from pipeline.evaluation.histogram import bin_counts, bin_indices, histogram
from pipeline.evaluation.reference_sample import sample_of
from processing.arrays import Floats
from processing.split import date_of

REFERENCE_FILE = "reference.json"
SCORE = "score"


def reference_of(rows: Dataset, score: Floats, threshold: float, names: Sequence[str]) -> dict[str, Any]:
    """The content of reference.json, from rows [n], their features [n, len(names)] and their scores [n].

    {"rows", "frauds", "days": [first, last], "alerts": share of the rows, "features": {name: {"edges", "counts",
    "information", "auc", "spread"}}, "score": {"edges", "counts"}, "sample"}; see `histogram`, `strength` and
    `pipeline.evaluation.reference_sample.sample_of`.
    """
    features = strengths(rows, names)
    reference: dict[str, Any] = {
        "rows": rows.rows,
        "frauds": rows.frauds,
        "days": [date_of(rows.day[0]).isoformat(), date_of(rows.day[-1]).isoformat()],
        "alerts": float(np.mean(score >= threshold)),
        "features": {
            name: {**histogram(rows.X[:, j]), **features[name]} for j, name in enumerate(names) if name in features
        },
        SCORE: histogram(score),
    }
    columns = [rows.X[:, names.index(name)] for name in reference["features"]] + [score]
    edges = _edges(reference)
    bins = np.stack([bin_indices(*pair) for pair in zip(columns, edges, strict=True)], axis=1)
    return reference | {"sample": sample_of(bins.astype(np.uint8), _widths(edges), rows.entities, rows.day)}


def chance_of(
    reference: Mapping[str, Any],
    columns: Sequence[str],
    entities: Sequence[Any],
    periods: Any,
    **options: Any,
) -> Chance | None:
    """The PSI that chance alone produces for some features, or for the score, in rows like these.

    See `pipeline.evaluation.chance.chance`. None for a reference that keeps no sample, as earlier versions wrote it.
    """
    if "sample" not in reference:
        return None
    indices = {name: index for index, name in enumerate([*reference["features"], SCORE])}
    positions = [indices[name] for name in columns]
    return chance(reference["sample"], _widths(_edges(reference)), positions, entities, periods, **options)


def feature_psi(rows: Dataset, names: Sequence[str], reference: Mapping[str, Any]) -> dict[str, float]:
    """The population stability index of every feature against a reference, except those of the calendar."""
    return {
        name: psi(reference["features"][name], rows.X[:, j])
        for j, name in enumerate(names)
        if name not in CALENDAR and name in reference["features"]
    }


def psi(expected: Mapping[str, Any], values: Floats) -> float:
    """The population stability index of values against a histogram of the reference."""
    return divergence(expected["counts"], bin_counts(values, expected["edges"]))


def _edges(reference: Mapping[str, Any]) -> list[Sequence[float]]:
    return [bins["edges"] for bins in (*reference["features"].values(), reference[SCORE])]


def _widths(edges: Sequence[Sequence[float]]) -> list[int]:
    return [len(one) + 2 for one in edges]
