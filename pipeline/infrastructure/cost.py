"""What the deployed stack costs a month, by service, beside what obvious alternatives would.

Prices come from `prices.toml`, amounts from the volumes a user gives, what the stack deploys (`STACK`, which a test
holds against its template) and, where neither says, from `ASSUMED`. Free tiers are left out, so small bills are lower.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pipeline.definition.defaults import INSTANCE_TYPE
from processing.errors import BadInput

PRICES = Path(__file__).with_name("prices.toml")
HOURS = 730.0  # of a month, as AWS counts
MONTH_SECONDS = HOURS * 3600
GB = 1e9
REGION = "eu-central-1"

When = Literal["standing", "runs", "transactions"]


@dataclass(frozen=True)
class Volumes:
    """What is to be paid for. Everything is of one month.

    transactions: that are scored; each is also taken in by the next run
    runs: of the pipeline
    tasks: of the API that run all the time
    data_gb: in the home, once everything is there
    feature_minutes, training_minutes: of a run's feature job, and of its training and its evaluation each
    """

    transactions: float = 1_000_000
    runs: float = 1
    tasks: float = 2
    data_gb: float = 100
    feature_minutes: float = 15
    training_minutes: float = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1e15:
                option = field.name.replace("_", "-")
                raise BadInput(f"--{option} is {value}: give a number from 0 up to 1e15")


@dataclass(frozen=True)
class Shape:
    """What the stack deploys, as far as it is paid for."""

    vcpu: float
    memory_gb: float
    zones: int
    interface_endpoints: int
    balancers: int
    glue_workers: int  # of G.1X, one DPU each; with auto-scaling the most there are
    instance: str  # of training and evaluation
    volume_gb: int
    queues: int  # that a function is fed from
    function_gb: float
    alarms: int
    dashboards: int
    keys: int
    secrets: int


STACK = Shape(
    vcpu=1.0,
    memory_gb=2.0,
    zones=2,
    interface_endpoints=4,
    balancers=1,
    glue_workers=10,
    instance=INSTANCE_TYPE,
    volume_gb=30,
    queues=5,
    function_gb=0.5,
    alarms=20,
    dashboards=1,
    keys=1,
    secrets=1,
)


@dataclass(frozen=True)
class Assumed:
    """What neither the volumes nor the stack say.

    read_units, write_units: of DynamoDB for a decision of the contract `transactions`. Its one strongly consistent
        read asks for 75 items or so: two, a day's of each look-back day and the hour's ten minutes of both entities.
        Its one transaction writes seven items, at two units each, and the index: the decision, the day and the ten
        minutes of both entities, and an entry in the list of each. What is called fraud takes one entry more.
    refresh_units: that the feature job writes for a transaction, were each alone in its entities' day
    item_bytes, entry_bytes, kept_months: of a decision in the online store, and of its entries in lists
    log_bytes, wire_bytes: of a decision, in the log and through the load balancer
    polls_a_second: with which a task looks whether another model was promoted
    pollers, poll_seconds: with which Lambda asks a queue for messages
    requests_a_run: reading and writing requests to S3
    invocations_a_run: of functions, of a second each; and `invocations` besides
    metrics: of Container Insights and our own
    images, image_gb: kept in the registry, compressed
    """

    read_units: float = 78
    write_units: float = 15
    refresh_units: float = 2
    item_bytes: float = 1000
    entry_bytes: float = 500
    kept_months: float = 13
    log_bytes: float = 350
    wire_bytes: float = 1500
    polls_a_second: float = 1
    pollers: float = 5
    poll_seconds: float = 20
    requests_a_run: float = 20_000
    invocations_a_run: float = 20
    invocations: float = 31
    metrics: float = 33
    images: float = 5
    image_gb: float = 0.33


ASSUMED = Assumed()


@dataclass(frozen=True)
class Price:
    """A price in US dollars, of what unit, known when and from where."""

    usd: float
    unit: str
    date: date
    source: str


Prices = Mapping[str, Price]


@dataclass(frozen=True)
class Line:
    """A position of the bill: so many units at a price, and whether they stand, or come of runs or transactions."""

    service: str
    what: str
    when: When
    amount: float
    price: str
    usd: float


@dataclass(frozen=True)
class Alternative:
    """Another way to do what some positions of the bill do."""

    name: str
    instead_of: str
    usd: float
    ours_usd: float
    note: str


@dataclass(frozen=True)
class Bill:
    """A month's bill and its alternatives."""

    region: str
    volumes: Volumes
    lines: tuple[Line, ...]
    alternatives: tuple[Alternative, ...]
    prices: Prices

    def total(self, when: When | None = None, service: str | None = None) -> float:
        """US dollars a month, of one kind and of one service if these are given."""
        return sum(
            line.usd
            for line in self.lines
            if (when is None or line.when == when) and (service is None or line.service == service)
        )

    def services(self) -> list[str]:
        """The services, the dearest first."""
        return sorted({line.service for line in self.lines}, key=lambda name: -self.total(service=name))


def read_prices(region: str, path: Path = PRICES) -> dict[str, Price]:
    """The prices of a region. Raises BadInput for a region without prices."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    if region not in tables:
        raise BadInput(
            f"there are no prices for the region {region!r}: take one of {', '.join(sorted(tables))}, or add its "
            f"prices to {path}"
        )
    return {name: Price(**price) for name, price in tables[region].items()}


def monthly_bill(volumes: Volumes, region: str = REGION) -> Bill:
    """The bill of a month. Raises BadInput for a region without prices."""
    prices = read_prices(region)
    lines = tuple(
        Line(service, what, when, amount, price, amount * prices[price].usd)
        for service, what, when, amount, price in _positions(volumes, STACK, ASSUMED)
    )
    bill = Bill(region, volumes, lines, (), prices)
    return Bill(region, volumes, lines, tuple(_alternatives(bill, STACK)), prices)


Position = tuple[str, str, When, float, str]


def _positions(volumes: Volumes, stack: Shape, assumed: Assumed) -> Iterator[Position]:
    yield from _serving(volumes, stack, assumed)
    yield from _runs(volumes, stack, assumed)
    yield from _watching(volumes, stack, assumed)


def _serving(volumes: Volumes, stack: Shape, assumed: Assumed) -> Iterator[Position]:
    """The API, its network and its store."""
    million, tasks = volumes.transactions / 1e6, volumes.tasks * HOURS
    yield "Fargate", "the API's processors", "standing", tasks * stack.vcpu, "fargate_vcpu"
    yield "Fargate", "the API's memory", "standing", tasks * stack.memory_gb, "fargate_gb"
    yield "Load balancer", "being there", "standing", stack.balancers * HOURS, "balancer_hour"
    sent = volumes.transactions * assumed.wire_bytes / GB
    connections = volumes.transactions / (25 * 3600)  # were each request to open one: an LCU is 25 a second
    yield "Load balancer", "requests", "transactions", max(sent, connections), "balancer_lcu"
    endpoints = stack.interface_endpoints * stack.zones * HOURS
    yield "VPC endpoints", "ways to AWS services", "standing", endpoints, "endpoint_hour"
    logged = volumes.transactions * assumed.log_bytes / GB
    yield "VPC endpoints", "logs that pass", "transactions", logged, "endpoint_gb"
    yield "DynamoDB", "reads of decisions", "transactions", million * assumed.read_units, "dynamodb_read"
    yield "DynamoDB", "writes of decisions", "transactions", million * assumed.write_units, "dynamodb_write"
    decided = volumes.transactions * assumed.kept_months / GB
    kept = decided * (assumed.item_bytes + assumed.entry_bytes)
    indexed = decided * assumed.item_bytes
    yield "DynamoDB", "decisions kept, their lists and index", "transactions", kept + indexed, "dynamodb_gb"
    yield "DynamoDB", "point-in-time recovery", "transactions", kept, "dynamodb_recovery_gb"
    yield "Secrets Manager", "the API's keys", "standing", stack.secrets, "secret"
    polls = volumes.tasks * assumed.polls_a_second * MONTH_SECONDS / 1e6
    yield "S3", "asking for the model that serves", "standing", polls, "s3_get"
    yield "CloudTrail", "of that asking", "standing", polls, "cloudtrail_data"


def _runs(volumes: Volumes, stack: Shape, assumed: Assumed) -> Iterator[Position]:
    """The pipeline, and the data it works on."""
    hours = volumes.runs * volumes.feature_minutes / 60
    yield "Glue", "the feature job, at its most workers", "runs", hours * stack.glue_workers, "glue_dpu"
    refreshed = volumes.transactions * assumed.refresh_units / 1e6 if volumes.runs else 0.0
    yield "DynamoDB", "refreshes by the feature job", "runs", refreshed, "dynamodb_write"
    jobs = 2 * volumes.runs * volumes.training_minutes / 60
    yield "SageMaker", "training and evaluation", "runs", jobs, stack.instance.replace(".", "_")
    yield "SageMaker", "their disks", "runs", jobs / HOURS * stack.volume_gb, "ml_volume_gb"
    yield "S3", "the home's data", "standing", volumes.data_gb, "s3_gb"
    requests = volumes.runs * assumed.requests_a_run / 1e6
    yield "S3", "requests of runs, were all writes", "runs", requests, "s3_put"
    yield "CloudTrail", "of those requests", "runs", requests, "cloudtrail_data"
    yield "KMS", "of those requests", "runs", requests, "kms_request"
    yield "KMS", "the data's key", "standing", stack.keys, "kms_key"
    yield "ECR", "the images kept", "standing", assumed.images * assumed.image_gb, "ecr_gb"
    calls = volumes.runs * assumed.invocations_a_run
    yield "Lambda", "events of runs", "runs", calls / 1e6, "lambda_request"
    yield "Lambda", "their time", "runs", calls * stack.function_gb, "lambda_gb_second"
    yield "Lambda", "the model's age, daily", "standing", assumed.invocations * stack.function_gb, "lambda_gb_second"
    polled = stack.queues * assumed.pollers * MONTH_SECONDS / assumed.poll_seconds / 1e6
    yield "SQS", "Lambda asking the queues", "standing", polled, "sqs_request"


def _watching(volumes: Volumes, stack: Shape, assumed: Assumed) -> Iterator[Position]:
    logged = volumes.transactions * assumed.log_bytes / GB
    yield "CloudWatch", "the API's log", "transactions", logged, "logs_gb"
    yield "CloudWatch", "three months of it", "transactions", 3 * logged, "logs_stored_gb"
    yield "CloudWatch", "metrics", "standing", assumed.metrics, "metric"
    yield "CloudWatch", "alarms", "standing", stack.alarms, "alarm"
    yield "CloudWatch", "the dashboard", "standing", stack.dashboards, "dashboard"


def _alternatives(bill: Bill, stack: Shape) -> Iterator[Alternative]:
    tasks = bill.volumes.tasks

    def usd(name: str, amount: float) -> float:
        return amount * bill.prices[name].usd

    api = bill.total(service="Fargate")
    front = bill.total(service="Load balancer")
    features = bill.total(service="Glue")
    yield Alternative(
        f"SageMaker endpoint, {tasks:g} x ml.m5.large",
        "Fargate, load balancer",
        usd("ml_m5_large_endpoint", tasks * HOURS),
        api + front,
        "still needs the online store, and something ahead of it that computes features",
    )
    yield Alternative(
        f"EKS, {tasks:g} pods on Fargate",
        "Fargate",
        usd("eks_hour", HOURS) + api,
        api,
        "a cluster's versions to keep up with, for one service",
    )
    yield Alternative(
        f"EC2, {tasks:g} x t3.small",
        "Fargate",
        usd("ec2_t3_small", tasks * HOURS) + usd("ebs_gb", tasks * stack.volume_gb),
        api,
        "systems to patch, scale and replace; processors that are throttled once their credits are used up",
    )
    yield Alternative(
        "EMR, 3 x m5.xlarge left on",
        "Glue",
        usd("ec2_m5_xlarge", 3 * HOURS) + usd("emr_m5_xlarge", 3 * HOURS),
        features,
        "paid all month for the hours of a few runs",
    )
    yield Alternative(
        "EC2, 1 x m5.xlarge left on for Spark",
        "Glue, SageMaker",
        usd("ec2_m5_xlarge", HOURS) + usd("ebs_gb", bill.volumes.data_gb),
        features + bill.total(service="SageMaker"),
        "today's server in the cloud: one machine, which also has to hold the data",
    )


def as_document(bill: Bill) -> dict[str, Any]:
    """The bill for a program to read."""
    kinds: Sequence[When] = ("standing", "runs", "transactions")
    return {
        "region": bill.region,
        "currency": "USD",
        "volumes": vars(bill.volumes),
        "total": bill.total(),
        **{kind: bill.total(kind) for kind in kinds},
        "services": {name: bill.total(service=name) for name in bill.services()},
        "lines": [vars(line) for line in bill.lines],
        "alternatives": [vars(other) for other in bill.alternatives],
        "prices": {name: {**vars(price), "date": price.date.isoformat()} for name, price in bill.prices.items()},
    }
