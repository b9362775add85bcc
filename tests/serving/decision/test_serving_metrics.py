"""Metrics of the API for Prometheus and CloudWatch, and its log lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_home import TestClient, promote, publish, row, serving_home, settings
from structlog.testing import capture_logs

from processing.contracts import reader as contracts
from serving.app import create_app
from serving.decision.embedded_metrics import EmbeddedMetrics
from serving.decision.service import open_service

CONTRACT = contracts.load("transactions")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        yield client


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """The samples at /metrics, by their name and the values of their labels in the order of the labels' names."""
    reply = client.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_decisions_refusals_latency_and_model_are_counted(client: TestClient) -> None:
    for name, amount in (("a", 900.0), ("b", 2.0), ("b", 2.0)):
        transaction = row(CONTRACT, transaction_id=name, amount=amount, event_time="2026-03-01T12:00:00Z")
        assert client.post("/v1/score", json=transaction).status_code == 200
    client.post("/v1/score", json=row(CONTRACT, amount=-1))
    client.get("/v1/a-path-that/nobody-knows")
    values = samples(client)
    assert values["fraudline_decisions_total", "known", "fraud", "false"] == 1
    assert values["fraudline_decisions_total", "known", "legit", "false"] == 1
    assert values["fraudline_decisions_total", "known", "legit", "true"] == 1
    assert values["fraudline_score_count",] == 2
    assert values["fraudline_requests_total", "/v1/score", "200"] == 3
    assert values["fraudline_refusals_total", "422"] == 1
    assert values["fraudline_requests_total", "other", "404"] == 1
    assert values["fraudline_request_seconds_count", "/v1/score"] == 4
    assert 0 < values["fraudline_request_seconds_sum", "/v1/score"] < 60
    assert values["fraudline_store_seconds_count",] >= 3
    assert values["fraudline_store_failures_total",] == 0
    version = client.get("/v1/model").json()["version"]
    assert values["fraudline_model_info", version] == 1
    assert 0 <= values["fraudline_model_age_seconds",] < 600
    assert values["fraudline_model_refused",] == 0
    assert "nobody-knows" not in client.get("/metrics").text


def test_a_refused_model_is_reported_in_metrics_until_another_one_serves(tmp_path: Path) -> None:
    home = serving_home(tmp_path)
    service = open_service(settings(tmp_path))
    embedded = EmbeddedMetrics(service.metrics)
    service.follower.check()
    good = service.follower.current().model.version
    assert embedded.line()["ModelRefused"] == 0
    promote(home, publish(home, 1, features=["other"]))
    service.follower.check()
    assert embedded.line()["ModelRefused"] == 1
    assert service.follower.current().model.version == good
    promote(home, good)
    service.follower.check()
    assert embedded.line()["ModelRefused"] == 0
    service.close()


def test_an_embedded_line_covers_the_time_since_the_last_one(tmp_path: Path) -> None:
    serving_home(tmp_path)
    service = open_service(settings(tmp_path))
    service.follower.check()
    embedded = EmbeddedMetrics(service.metrics)
    for seconds in (0.002, 0.002, 0.2):
        service.metrics.count_response("/v1/score", 200, seconds)
    service.metrics.count_store_call(0.3, failed=True)
    line = embedded.line()
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Fraudline", [[]])
    assert {metric["Name"] for metric in directive["Metrics"]} == set(line) - {"_aws"}
    assert (line["Requests"], line["StoreFailures"], line["DecisionsFraud"]) == (3, 1, 0)
    assert 0.1 < line["RequestSecondsP99"] <= 0.25
    assert "ScoreMean" not in line
    again = embedded.line()
    assert (again["Requests"], again["StoreFailures"]) == (0, 0)
    assert "RequestSecondsP99" not in again
    service.close()


def test_a_server_writes_embedded_metrics_if_configured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, embedded_metrics_seconds=0.05))) as client:
        lines: list[dict[str, Any]] = []
        while not lines:
            client.get("/health/live")
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
    assert "ModelAge" in lines[0]


def test_the_log_line_of_a_decision_has_no_card_data(client: TestClient) -> None:
    transaction = row(CONTRACT, transaction_id="t-log", customer_id="C-secret", terminal_id="T-secret", amount=12.34)
    with capture_logs() as lines:
        client.post("/v1/score", json=transaction)
    (line,) = [line for line in lines if line["event"] == "decision"]
    assert set(line) == {
        "event",
        "log_level",
        "transaction_id",
        "decision",
        "score",
        "model_version",
        "repeated",
        "behaviour",
        "latency_ms",
    }
    assert "secret" not in str(lines)
    assert "12.34" not in str(lines)
