"""What one app measures while it serves, as Prometheus metrics. None is about a single customer or transaction."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.decision.decider import Answer
from serving.decision.follower import Follower
from serving.decision.store_watch import StoreWatch
from serving.decision.troubles import NAMES
from serving.logs import LineWriter

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SCORES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

AGES = ("fraudline_horizon_age_seconds", "fraudline_label_age_seconds")
AGE_DESCRIPTIONS = (
    "Since the time up to which the online store counts the transactions of the tables",
    "Since the newest transaction with a known label",
)


class ServingMetrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self, follower: Follower, watch: StoreWatch) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fraudline_requests", "Responses by route and status", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fraudline_request_seconds",
            "From the start of a request to the end of its response",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "fraudline_decisions",
            "Decisions by outcome, whether they repeat one on record, and what was known of earlier transactions",
            ["decision", "repeated", "behaviour"],
            registry=self.registry,
        )
        self._score = Histogram("fraudline_score", "Scores of new decisions", buckets=SCORES, registry=self.registry)
        self._refusals = Counter("fraudline_refusals", "Refused requests by status", ["status"], registry=self.registry)
        self._store = Histogram(
            "fraudline_store_seconds",
            "Calls to the online store; a transaction of decisions includes the computation in it",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._failures = Counter(
            "fraudline_store_failures", "Calls that the online store did not answer", registry=self.registry
        )
        self._store_refusals = Counter(
            "fraudline_store_refusals",
            "Transactions and feedback refused, or scored without behaviour, because of the online store",
            registry=self.registry,
        )
        self.registry.register(_StateCollector(follower, watch))

    def count_response(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if status >= 400:
            self._refusals.labels(str(status)).inc()

    def count_decision(self, answer: Answer) -> None:
        """Count a decision; only new ones count towards the scores."""
        decision = answer.decision
        self._decisions.labels(decision.decision, str(answer.repeated).lower(), answer.behaviour).inc()
        if not answer.repeated:
            self._score.observe(decision.score)

    def count_store_call(self, seconds: float, *, failed: bool = False) -> None:
        """Count a call to the online store."""
        self._store.observe(seconds)
        if failed:
            self._failures.inc()

    def count_store_refusal(self) -> None:
        """Count a transaction or feedback that could not use the online store."""
        self._store_refusals.inc()


class _StateCollector:
    """Metrics of the server's present state, read when they are scraped."""

    def __init__(self, follower: Follower, watch: StoreWatch) -> None:
        self._follower, self._watch = follower, watch

    def collect(self) -> Iterator[Metric]:
        now = datetime.now(UTC)
        yield from self._model_metrics(now)
        for name, description, seconds in zip(AGES, AGE_DESCRIPTIONS, self._watch.ages(now), strict=True):
            age = GaugeMetricFamily(name, description)
            if seconds is not None:
                age.add_metric([], seconds)
            yield age
        troubles = GaugeMetricFamily("fraudline_trouble", "1 while the trouble exists", labels=["name"])
        active = {trouble.name for trouble in self._watch.troubles.active()}
        for name in NAMES:
            troubles.add_metric([name], int(name in active))
        yield troubles
        yield CounterMetricFamily("fraudline_log_lines_lost", "Log lines that could not be written", LineWriter.lost)

    def _model_metrics(self, now: datetime) -> Iterator[Metric]:
        serving, refused = self._follower.serving, self._follower.refused
        info = GaugeMetricFamily("fraudline_model_info", "1 for the serving version", labels=["version"])
        age = GaugeMetricFamily("fraudline_model_age_seconds", "Since the serving model was promoted")
        if serving is not None:
            info.add_metric([serving.model.version], 1)
            age.add_metric([], (now - datetime.fromisoformat(serving.promoted_at)).total_seconds())
        yield info
        yield age
        description = "1 while the promoted model is refused, and another or none is serving"
        yield GaugeMetricFamily("fraudline_model_refused", description, int(refused))
