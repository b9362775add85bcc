"""The function that measures the serving model's age every day, for the alarm on it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from pipeline.metric_names import MODEL_AGE, MODEL_AGE_SERVICE, NAMESPACE
from pipeline.registry.registry import Registry, Version
from processing.storage.open import open_home
from triggers.functions.function_settings import read_settings


@dataclass(frozen=True)
class ModelAgeSettings:
    """home: the address of the home."""

    home: str


def handler(event: dict[str, Any], context: Any) -> dict[str, float | None]:
    """Record the age, whatever the event says; returns {"days"}, None until a model has been promoted."""
    days = age(Registry(open_home(read_settings(ModelAgeSettings).home)), datetime.now(UTC))
    if days is not None:
        metrics = Metrics(namespace=NAMESPACE, service=MODEL_AGE_SERVICE)
        metrics.add_metric(name=MODEL_AGE, unit=MetricUnit.Count, value=days)
        metrics.flush_metrics()
    Logger(service=MODEL_AGE_SERVICE).info("model age", extra={"days": days})
    return {"days": days}


def age(registry: Registry, now: datetime) -> float | None:
    """Days since the serving version was made; a rollback makes it older. None until a model has been promoted."""
    latest = registry.latest()
    return (now - Version.parse(latest.version).created).total_seconds() / 86_400 if latest else None
