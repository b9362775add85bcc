"""The positions of the bill: how many units of what each service is used for."""

from collections.abc import Iterator
from typing import Literal

from pipeline.infrastructure.cost.stack_sizes import StackSizes
from pipeline.infrastructure.cost.volumes import Assumptions, Volumes

HOURS = 730.0  # in a month, as AWS counts
MONTH_SECONDS = HOURS * 3600
GB = 1e9

When = Literal["standing", "runs", "transactions"]
Position = tuple[str, str, When, float, str]  # service, what for, what it depends on, units, name of the price


def positions(volumes: Volumes, stack: StackSizes, assumed: Assumptions) -> Iterator[Position]:
    """All positions of a month."""
    yield from _serving(volumes, stack, assumed)
    yield from _runs(volumes, stack, assumed)
    yield from _monitoring(volumes, stack, assumed)


def _serving(volumes: Volumes, stack: StackSizes, assumed: Assumptions) -> Iterator[Position]:
    """The API, its network and the online store."""
    million, tasks = volumes.transactions / 1e6, volumes.tasks * HOURS
    yield "Fargate", "processors of the API", "standing", tasks * stack.vcpu, "fargate_vcpu"
    yield "Fargate", "memory of the API", "standing", tasks * stack.memory_gb, "fargate_gb"
    yield "Load balancer", "hours", "standing", stack.balancers * HOURS, "balancer_hour"
    sent = volumes.transactions * assumed.wire_bytes / GB
    connections = volumes.transactions / (25 * 3600)  # if each request opens one: an LCU is 25 new ones a second
    yield "Load balancer", "requests", "transactions", max(sent, connections), "balancer_lcu"
    endpoints = stack.interface_endpoints * stack.zones * HOURS
    yield "VPC endpoints", "hours", "standing", endpoints, "endpoint_hour"
    logged = volumes.transactions * assumed.log_bytes / GB
    yield "VPC endpoints", "log traffic", "transactions", logged, "endpoint_gb"
    yield "DynamoDB", "reads for decisions", "transactions", million * assumed.read_units, "dynamodb_read"
    yield "DynamoDB", "writes for decisions", "transactions", million * assumed.write_units, "dynamodb_write"
    decided = volumes.transactions * assumed.kept_months / GB
    stored = decided * (assumed.item_bytes + assumed.entry_bytes)
    indexed = decided * assumed.item_bytes
    yield "DynamoDB", "stored decisions, their lists and index", "transactions", stored + indexed, "dynamodb_gb"
    yield "DynamoDB", "point-in-time recovery", "transactions", stored, "dynamodb_recovery_gb"
    yield "Secrets Manager", "the API's keys", "standing", stack.secrets, "secret"
    polls = volumes.tasks * assumed.polls_per_second * MONTH_SECONDS / 1e6
    yield "S3", "polls for a newly promoted model", "standing", polls, "s3_get"
    yield "CloudTrail", "records of those polls", "standing", polls, "cloudtrail_data"


def _runs(volumes: Volumes, stack: StackSizes, assumed: Assumptions) -> Iterator[Position]:
    """The pipeline, and the data that it works on."""
    hours = volumes.runs * volumes.feature_minutes / 60
    yield "Glue", "the feature job, with all its workers", "runs", hours * stack.glue_workers, "glue_dpu"
    refreshed = volumes.transactions * assumed.refresh_units / 1e6 if volumes.runs else 0.0
    yield "DynamoDB", "refreshes by the feature job", "runs", refreshed, "dynamodb_write"
    jobs = 2 * volumes.runs * volumes.training_minutes / 60
    yield "SageMaker", "training and evaluation", "runs", jobs, stack.instance.replace(".", "_")
    yield "SageMaker", "their disks", "runs", jobs / HOURS * stack.volume_gb, "ml_volume_gb"
    yield "S3", "data of the home", "standing", volumes.data_gb, "s3_gb"
    requests = volumes.runs * assumed.requests_per_run / 1e6
    yield "S3", "requests of runs, priced as writes", "runs", requests, "s3_put"
    yield "CloudTrail", "records of those requests", "runs", requests, "cloudtrail_data"
    yield "KMS", "those requests", "runs", requests, "kms_request"
    yield "KMS", "the home's key", "standing", stack.keys, "kms_key"
    yield "ECR", "stored images", "standing", assumed.images * assumed.image_gb, "ecr_gb"
    calls = volumes.runs * assumed.invocations_per_run
    yield "Lambda", "invocations for runs", "runs", calls / 1e6, "lambda_request"
    yield "Lambda", "their duration", "runs", calls * stack.function_gb, "lambda_gb_second"
    daily = assumed.invocations * stack.function_gb
    yield "Lambda", "the daily look at the model's age", "standing", daily, "lambda_gb_second"
    polled = stack.queues * assumed.pollers * MONTH_SECONDS / assumed.poll_seconds / 1e6
    yield "SQS", "Lambda polling the queues", "standing", polled, "sqs_request"


def _monitoring(volumes: Volumes, stack: StackSizes, assumed: Assumptions) -> Iterator[Position]:
    logged = volumes.transactions * assumed.log_bytes / GB
    yield "CloudWatch", "the API's log", "transactions", logged, "logs_gb"
    yield "CloudWatch", "three months of that log", "transactions", 3 * logged, "logs_stored_gb"
    yield "CloudWatch", "metrics", "standing", assumed.metrics, "metric"
    yield "CloudWatch", "alarms", "standing", stack.alarms, "alarm"
    yield "CloudWatch", "the dashboard", "standing", stack.dashboards, "dashboard"
