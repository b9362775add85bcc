"""A model's reference: how its features, its scores and the labels were distributed on its test rows.

`reference.json` of a version holds it. Later rows are compared with it: the next challenger's
(`pipeline.evaluation.checks`), and those that were scored in service (`pipeline.evaluation.drift`). The test rows and
not the training rows make it: they are the latest, whole, and the ones on which the model's scores are those of use.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pipeline.data.dataset import Dataset
from pipeline.evaluation.chance import Chance, chance, sample_of
from processing.arrays import Floats
from processing.split import date_of

Ints = NDArray[np.int64]

REFERENCE_FILE = "reference.json"
SCORE = "score"
BINS = 10
# These follow from the time of a transaction alone: they change with the days compared, and cannot break.
CALENDAR = ("hour", "weekend")


def reference_of(rows: Dataset, score: Floats, threshold: float, names: Sequence[str]) -> dict[str, Any]:
    """What reference.json says of the rows [n], their features [n, len(names)] and their scores [n].

    {"rows", "frauds", "days": [first, last], "alerts": share of the rows, "features": {name: {"edges", "counts",
    "information", "auc", "spread"}}, "score": {"edges", "counts"}, "sample"}; see `histogram`, `strength` and
    `pipeline.evaluation.chance.sample_of`.
    """
    features = strengths(rows, names)
    found: dict[str, Any] = {
        "rows": rows.rows,
        "frauds": rows.frauds,
        "days": [date_of(rows.day[0]).isoformat(), date_of(rows.day[-1]).isoformat()],
        "alerts": float(np.mean(score >= threshold)),
        "features": {
            name: {**histogram(rows.X[:, j]), **features[name]} for j, name in enumerate(names) if name in features
        },
        SCORE: histogram(score),
    }
    columns = [rows.X[:, names.index(name)] for name in found["features"]] + [score]
    edges = _edges(found)
    bins = np.stack([places(*pair) for pair in zip(columns, edges, strict=True)], axis=1)
    return found | {"sample": sample_of(bins.astype(np.uint8), _widths(edges), rows.entities, rows.day)}


def chance_of(
    reference: Mapping[str, Any],
    columns: Sequence[str],
    entities: Sequence[Any],
    periods: Any,
    **options: Any,
) -> Chance | None:
    """What chance makes of the indices of some features, or of the score, in rows like those given.

    See `pipeline.evaluation.chance.chance`. None for a reference of a time before it kept a sample, which cannot say.
    """
    if "sample" not in reference:
        return None
    places_of = {name: place for place, name in enumerate([*reference["features"], SCORE])}
    wanted = [places_of[name] for name in columns]
    return chance(reference["sample"], _widths(_edges(reference)), wanted, entities, periods, **options)


def _edges(reference: Mapping[str, Any]) -> list[Sequence[float]]:
    return [one["edges"] for one in (*reference["features"].values(), reference[SCORE])]


def _widths(edges: Sequence[Sequence[float]]) -> list[int]:
    return [len(one) + 2 for one in edges]


def strengths(rows: Dataset, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """How much every feature alone tells of the label, by name; those of the calendar are left out."""
    return {name: strength(rows.X[:, j], rows.y) for j, name in enumerate(names) if name not in CALENDAR}


def histogram(values: Floats) -> dict[str, list[float]]:
    """Bins of about equal counts, and the counts in them: {"edges", "counts"}.

    Bin i holds what lies in (edges[i - 1], edges[i]]; the first and the last reach to infinity, and one more counts
    the missing values (NaN). A value that makes up more than a bin's share has a bin of its own.
    """
    found = values[~np.isnan(values)]
    cuts = np.quantile(found, np.arange(1, BINS) / BINS, method="inverted_cdf") if len(found) else np.empty(0)
    edges, times = np.unique(cuts, return_counts=True)
    alone = edges[times > 1]
    edges = np.union1d(edges, np.nextafter(alone, -np.inf))
    return {"edges": edges.tolist(), "counts": counts(values, edges).tolist()}


def counts(values: Floats, edges: Sequence[float] | Floats) -> Ints:
    """How many values lie in each bin of a histogram, [len(edges) + 2]; the last counts the missing."""
    return np.bincount(places(values, edges), minlength=len(edges) + 2).astype(np.int64)


def places(values: Floats, edges: Sequence[float] | Floats) -> Ints:
    """The bin of every value in a histogram, from 0; the last one is that of the missing."""
    found = np.searchsorted(np.asarray(edges, np.float64), values, side="left")
    return np.where(np.isnan(values), len(edges) + 1, found).astype(np.int64)


def divergence(one: Sequence[int] | Ints, other: Sequence[int] | Ints) -> float:
    """How much two histograms over the same bins differ: sum of (p - q) ln(p / q).

    Between two times it is the population stability index, between frauds and honest rows the information value:
    N. Siddiqi, "Credit Risk Scorecards", 2006. Half a count is added to every bin, so that an empty one is no
    infinity.
    """
    p, q = (np.asarray(each, np.float64) + 0.5 for each in (one, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def ks(one: Sequence[int] | Ints, other: Sequence[int] | Ints) -> float:
    """The Kolmogorov-Smirnov distance at the bins' edges, missing values last: the distance itself is no smaller."""
    p, q = (np.cumsum(each) / max(1, np.sum(each)) for each in (one, other))
    return float(np.abs(p - q).max())


def psi(known: Mapping[str, Any], values: Floats) -> float:
    """The population stability index of some values against a histogram of the reference."""
    return divergence(known["counts"], counts(values, known["edges"]))


def strength(values: Floats, y: NDArray[Any]) -> dict[str, float]:
    """How much one feature alone tells of the label: {"information", "auc", "spread"}.

    information: the information value over the bins of `histogram`, whatever the shape of the relation
    auc: the area under the ROC curve of the feature as a score, or of its negative where that is better; missing
        values count as lowest or highest, whichever is better
    spread: the share of the rows outside the fullest bin; 0 for a feature that has one value
    """
    bins = histogram(values)
    edges = bins["edges"]
    fraud = y == 1
    areas = [roc_auc_score(y, np.nan_to_num(values, nan=end, posinf=np.inf)) for end in _ends(values)]
    return {
        "information": divergence(counts(values[fraud], edges), counts(values[~fraud], edges)),
        "auc": float(max(max(area, 1 - area) for area in areas)),
        "spread": 1.0 - max(bins["counts"]) / len(values),
    }


def _ends(values: Floats) -> tuple[float, ...]:
    found = values[~np.isnan(values)]
    if len(found) == len(values):
        return (0.0,)
    return (float(found.min()) - 1.0, float(found.max()) + 1.0) if len(found) else (0.0,)
