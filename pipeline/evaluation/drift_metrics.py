"""Drift as two CloudWatch metrics, for alarms; namespace `Fraudline`, dimension service=fraudline-drift.

`FeatureDrift` is the largest PSI of a feature that is beyond chance, else 0; `ScoreDrift` is the score's. An alarm on
either above 0.25 says that the model sees transactions unlike those it was tested on.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.evaluation.model_reference import SCORE
from pipeline.metric_names import DRIFT_SERVICE, FEATURE_DRIFT, NAMESPACE, SCORE_DRIFT
from processing.errors import FraudlineError

TOO_FEW = "too few"  # the level of a figure for which there are too few decisions


def drift_metrics(drift: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a measured drift, by name: those for which there are enough decisions."""
    values: dict[str, float] = {}
    if drift["enough"]:
        values[FEATURE_DRIFT] = drift["feature_drift"]
        if drift[SCORE] and drift[SCORE]["level"] != TOO_FEW:
            values[SCORE_DRIFT] = drift["score_drift"]
    return values


def embedded_metrics(drift: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The metrics as a log line from which CloudWatch reads them (embedded metric format)."""
    values = drift_metrics(drift)
    metrics = [{"Name": name, "Unit": "None"} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["service"]], "Metrics": metrics}
    header = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive] if values else []}
    return {"_aws": header, "service": DRIFT_SERVICE, **values}


def publish_metrics(drift: Mapping[str, Any]) -> dict[str, float]:
    """Put the metrics into CloudWatch and return them; nothing if there are too few decisions."""
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.aws_client import client

    values = drift_metrics(drift)
    if values:
        dimensions = [{"Name": "service", "Value": DRIFT_SERVICE}]
        data = [
            {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "None"}
            for name, value in values.items()
        ]
        try:
            client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=data)
        except (BotoCoreError, ClientError) as error:
            raise FraudlineError(
                f"CloudWatch did not accept the metrics: {error}; check AWS_REGION and the credentials, which must "
                f"allow cloudwatch:PutMetricData for the namespace {NAMESPACE}"
            ) from error
    return values
