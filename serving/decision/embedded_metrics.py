"""Metrics as log lines in CloudWatch's embedded metric format."""

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pipeline.metric_names import NAMESPACE
from serving.decision.serving_metrics import AGES, ServingMetrics
from serving.decision.troubles import NAMES


class EmbeddedMetrics:
    """The metrics of an app as lines without dimensions, each for the time since the previous line.

    CloudWatch turns such a line into metrics of the namespace Fraudline, wherever it is logged. A quantile is
    interpolated within its bucket, as Prometheus does.
    """

    def __init__(self, metrics: ServingMetrics) -> None:
        self._registry = metrics.registry
        self._before = self._samples()

    def line(self) -> dict[str, Any]:
        """The next line."""
        now = self._samples()
        since: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for (name, labels), value in now.items():
            since[name].append((dict(labels), value - self._before.get((name, labels), 0.0)))
        self._before = now

        def count(name: str, **labels: str) -> float:
            return sum(value for own, value in since[name] if labels.items() <= own.items())

        def quantile(name: str) -> float | None:
            return _quantile(0.99, [(float(own["le"]), value) for own, value in since[f"{name}_bucket"]])

        values: dict[str, tuple[float | None, str]] = {
            "Requests": (count("fraudline_requests_total"), "Count"),
            "RequestSecondsP99": (quantile("fraudline_request_seconds"), "Seconds"),
            "Refusals": (count("fraudline_refusals_total"), "Count"),
            "DecisionsFraud": (count("fraudline_decisions_total", decision="fraud"), "Count"),
            "DecisionsLegit": (count("fraudline_decisions_total", decision="legit"), "Count"),
            "DecisionsWithoutStore": (count("fraudline_decisions_total", behaviour="unavailable"), "Count"),
            "ScoreMean": (_ratio(count("fraudline_score_sum"), count("fraudline_score_count")), "None"),
            "StoreSecondsP99": (quantile("fraudline_store_seconds"), "Seconds"),
            "StoreFailures": (count("fraudline_store_failures_total"), "Count"),
            "ModelAge": (now.get(("fraudline_model_age_seconds", ())), "Seconds"),
            "ModelRefused": (now[("fraudline_model_refused", ())], "Count"),
            "StoreRefusals": (count("fraudline_store_refusals_total"), "Count"),
            "HorizonAge": (now.get((AGES[0], ())), "Seconds"),
            "LabelAge": (now.get((AGES[1], ())), "Seconds"),
        }
        for name in NAMES:  # labels_old: LabelsOld
            values[name.title().replace("_", "")] = (now[("fraudline_trouble", (("name", name),))], "Count")
        known = {name: value for name, (value, _) in values.items() if value is not None}
        named = [{"Name": name, "Unit": unit} for name, (_, unit) in values.items() if name in known]
        directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": named}
        return {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}, **known}

    def _samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self._registry.collect()
            for sample in family.samples
        }


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None


def _quantile(q: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """The quantile of cumulative buckets, (upper edge, count), of one or more histograms; None if they are empty."""
    sums: dict[float, float] = {}
    for edge, count in buckets:
        sums[edge] = sums.get(edge, 0.0) + count
    edges = sorted(sums)
    if not edges or not sums[edges[-1]]:
        return None
    rank, low, below = q * sums[edges[-1]], 0.0, 0.0
    for edge in edges[:-1]:
        if sums[edge] >= rank:
            return low + (edge - low) * (rank - below) / (sums[edge] - below)
        low, below = edge, sums[edge]
    return low  # beyond the last finite edge
