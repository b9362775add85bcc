"""What is measured while the API serves: for Prometheus at /metrics, and as CloudWatch's embedded metrics in the log.

Both come from one registry, one for each app. Nothing in them is about a single customer or transaction.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.metric_names import NAMESPACE
from serving.decision.decide import Answer
from serving.decision.follow import Follower
from serving.decision.troubles import NAMES
from serving.decision.watch import StoreWatch
from serving.logs import LineWriter

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SCORES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


AGES = ("fraudline_horizon_age_seconds", "fraudline_label_age_seconds")
AGE_WORDS = (
    "Since the time up to which the online store counts what runs have taken in",
    "Since the newest transaction whose label is known",
)


class Metrics:
    """The registry of one app, and what fills it."""

    def __init__(self, follower: Follower, watch: StoreWatch) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fraudline_requests", "Answers by route and status", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fraudline_request_seconds",
            "From the first of a request to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "fraudline_decisions",
            "Decisions by outcome; repeated: it was on record; behaviour: what was known of earlier transactions",
            ["decision", "repeated", "behaviour"],
            registry=self.registry,
        )
        self._score = Histogram("fraudline_score", "Scores of new decisions", buckets=SCORES, registry=self.registry)
        self._refusals = Counter(
            "fraudline_refusals", "Requests refused, by status", ["status"], registry=self.registry
        )
        self._store = Histogram(
            "fraudline_store_seconds",
            "Calls to the online store; a transaction of decisions with all that is computed in it",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "fraudline_store_failures", "Calls that the online store did not answer", registry=self.registry
        )
        self._refused = Counter(
            "fraudline_store_refusals",
            "Transactions and feedback that were refused, or scored without behaviour, because of the online store",
            registry=self.registry,
        )
        self.registry.register(_State(follower, watch))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Take in an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if status >= 400:
            self._refusals.labels(str(status)).inc()

    def decided(self, answer: Answer) -> None:
        """Take in a decision."""
        made = answer.decision
        self._decisions.labels(made.decision, str(answer.repeated).lower(), answer.behaviour).inc()
        if not answer.repeated:
            self._score.observe(made.score)

    def stored(self, seconds: float, *, failed: bool = False) -> None:
        """Take in a call to the online store."""
        self._store.observe(seconds)
        if failed:
            self._failures.inc()

    def refused_by_store(self) -> None:
        """Take in that a call found the online store of no use."""
        self._refused.inc()


class _State:
    """What the state of the server itself tells, read when it is asked for."""

    def __init__(self, follower: Follower, watch: StoreWatch) -> None:
        self._follower, self._watch = follower, watch

    def collect(self) -> Iterator[Metric]:
        served, refused = self._follower.served, self._follower.refused
        info = GaugeMetricFamily("fraudline_model_info", "1 for the version that serves", labels=["version"])
        age = GaugeMetricFamily("fraudline_model_age_seconds", "Since the model that serves was promoted")
        if served is not None:
            info.add_metric([served.model.version], 1)
            age.add_metric([], (datetime.now(UTC) - datetime.fromisoformat(served.promoted_at)).total_seconds())
        yield info
        yield age
        yield GaugeMetricFamily(
            "fraudline_model_refused", "1 while the promoted model is refused, and another or none serves", int(refused)
        )
        now = datetime.now(UTC)
        for name, text, seconds in zip(AGES, AGE_WORDS, self._watch.ages(now), strict=True):
            aged = GaugeMetricFamily(name, text)
            if seconds is not None:
                aged.add_metric([], seconds)
            yield aged
        troubles = GaugeMetricFamily("fraudline_trouble", "1 while the trouble stands", labels=["name"])
        standing = {trouble.name for trouble in self._watch.troubles.standing()}
        for name in NAMES:
            troubles.add_metric([name], int(name in standing))
        yield troubles
        yield CounterMetricFamily("fraudline_log_lines_lost", "Log lines that could not be written", LineWriter.lost)


class EmbeddedMetrics:
    """The registry as lines in CloudWatch's embedded metric format: one line, no dimensions, what was since the last.

    CloudWatch makes metrics of the namespace Fraudline from such a line, wherever it is logged from. A quantile is
    interpolated within its bucket, as Prometheus does.
    """

    def __init__(self, metrics: Metrics) -> None:
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
    """The quantile of cumulative buckets, (upper edge, count), of one or more histograms; None of nothing."""
    sums: dict[float, float] = {}
    for edge, count in buckets:
        sums[edge] = sums.get(edge, 0.0) + count
    edges = sorted(sums)
    if not edges or not sums[edges[-1]]:
        return None
    wanted, low, below = q * sums[edges[-1]], 0.0, 0.0
    for edge in edges[:-1]:
        if sums[edge] >= wanted:
            return low + (edge - low) * (wanted - below) / (sums[edge] - below)
        low, below = edge, sums[edge]
    return low  # beyond the last edge: not known better
