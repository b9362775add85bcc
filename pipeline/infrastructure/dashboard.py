"""The dashboard: requests, runs and queues at a glance."""

from collections.abc import Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from pipeline.infrastructure.alarms import (
    FIVE_MINUTES,
    MODEL_AGE_METRIC,
    Metric,
    error_metrics,
    latency_metric,
    pipeline_metric,
)
from pipeline.infrastructure.glue_job import GlueFeatureJob
from pipeline.infrastructure.scoring_api import ScoringApi
from pipeline.infrastructure.triggers import Triggers


def add_dashboard(scope: Construct, *, triggers: Triggers, api: ScoringApi, job: GlueFeatureJob) -> None:
    """Add the dashboard to `scope`."""
    requests = api.balancer.metrics.request_count(period=FIVE_MINUTES)
    cpu, memory = api.service.metric_cpu_utilization(), api.service.metric_memory_utilization()
    runs = [pipeline_metric(f"Execution{kind}") for kind in ("Started", "Succeeded", "Failed")]
    waiting = [
        reaction.queue.metric_approximate_number_of_messages_visible(label=reaction.name)
        for reaction in triggers.reactions
    ]
    dead = [reaction.dead.metric_approximate_number_of_messages_visible() for reaction in triggers.reactions]
    workers = cloudwatch.Metric(
        namespace="Glue",
        metric_name="glue.driver.ExecutorAllocationManager.executors.numberAllExecutors",
        dimensions_map={"JobName": job.name, "JobRunId": "ALL", "Type": "gauge"},
        statistic="Maximum",
    )
    cloudwatch.Dashboard(
        scope,
        "Dashboard",
        widgets=[
            [
                _graph("Requests", [requests], error_metrics(api)),
                _graph("Latency, p99", [latency_metric(api)]),
                _graph("Tasks", [cpu, memory]),
            ],
            [
                _graph("Runs", runs),
                _graph("Waiting events", waiting, dead),
                _graph("Model age in days", [MODEL_AGE_METRIC]),
            ],
            [_graph("Workers of the feature job", [workers])],
        ],
    )


def _graph(title: str, left: Sequence[Metric], right: Sequence[Metric] = ()) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(left), right=list(right), width=8)
