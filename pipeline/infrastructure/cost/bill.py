"""The monthly bill."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.infrastructure.cost.positions import HOURS, When, positions
from pipeline.infrastructure.cost.prices import Price, read_prices
from pipeline.infrastructure.cost.stack_sizes import StackSizes, read_sizes
from pipeline.infrastructure.cost.volumes import ASSUMED, Volumes

REGION = "eu-central-1"
KINDS: Sequence[When] = ("standing", "runs", "transactions")


@dataclass(frozen=True)
class Line:
    """A line: a number of units at a price, and whether they are standing or come with runs or transactions."""

    service: str
    what: str
    when: When
    amount: float
    price: str
    usd: float


@dataclass(frozen=True)
class Alternative:
    """Another way to do what some lines of the bill pay for; `ours_usd` is what those lines cost."""

    name: str
    instead_of: str
    usd: float
    ours_usd: float
    note: str


@dataclass(frozen=True)
class Bill:
    """A month's bill in US dollars."""

    region: str
    volumes: Volumes
    sizes: StackSizes
    lines: tuple[Line, ...]
    prices: Mapping[str, Price]

    def total(self, when: When | None = None, service: str | None = None) -> float:
        """The total, or only that of one kind and of one service."""
        return sum(
            line.usd
            for line in self.lines
            if (when is None or line.when == when) and (service is None or line.service == service)
        )

    def services(self) -> list[str]:
        """The services, the most expensive first."""
        return sorted({line.service for line in self.lines}, key=lambda name: -self.total(service=name))

    def alternatives(self) -> list[Alternative]:
        """What the obvious alternatives would cost."""
        return list(_alternatives(self))


def monthly_bill(volumes: Volumes, region: str = REGION) -> Bill:
    """The bill for these volumes. Raises BadInput for a region without prices."""
    prices, sizes = read_prices(region), read_sizes()
    lines = tuple(
        Line(service, what, when, amount, price, amount * prices[price].usd)
        for service, what, when, amount, price in positions(volumes, sizes, ASSUMED)
    )
    return Bill(region, volumes, sizes, lines, prices)


def _alternatives(bill: Bill) -> Iterator[Alternative]:
    tasks = bill.volumes.tasks

    def usd(price: str, amount: float) -> float:
        return amount * bill.prices[price].usd

    api = bill.total(service="Fargate")
    balancer = bill.total(service="Load balancer")
    features = bill.total(service="Glue")
    yield Alternative(
        f"SageMaker endpoint, {tasks:g} x ml.m5.large",
        "Fargate, load balancer",
        usd("ml_m5_large_endpoint", tasks * HOURS),
        api + balancer,
        "still needs the online store, and a service in front that computes features",
    )
    yield Alternative(
        f"EKS, {tasks:g} pods on Fargate",
        "Fargate",
        usd("eks_hour", HOURS) + api,
        api,
        "a cluster to upgrade, for one service",
    )
    yield Alternative(
        f"EC2, {tasks:g} x t3.small",
        "Fargate",
        usd("ec2_t3_small", tasks * HOURS) + usd("ebs_gb", tasks * bill.sizes.volume_gb),
        api,
        "machines to patch, scale and replace; processors are throttled once their credits are used up",
    )
    yield Alternative(
        "EMR, 3 x m5.xlarge left on",
        "Glue",
        usd("ec2_m5_xlarge", 3 * HOURS) + usd("emr_m5_xlarge", 3 * HOURS),
        features,
        "paid all month for a few hours of runs",
    )
    yield Alternative(
        "EC2, 1 x m5.xlarge left on for Spark",
        "Glue, SageMaker",
        usd("ec2_m5_xlarge", HOURS) + usd("ebs_gb", bill.volumes.data_gb),
        features + bill.total(service="SageMaker"),
        "today's server in the cloud: one machine, which also has to hold the data",
    )


def bill_document(bill: Bill) -> dict[str, Any]:
    """The bill as a JSON document."""
    return {
        "region": bill.region,
        "currency": "USD",
        "volumes": vars(bill.volumes),
        "total": bill.total(),
        **{kind: bill.total(kind) for kind in KINDS},
        "services": {name: bill.total(service=name) for name in bill.services()},
        "lines": [vars(line) for line in bill.lines],
        "alternatives": [vars(other) for other in bill.alternatives()],
        "prices": {name: {**vars(price), "date": price.date.isoformat()} for name, price in bill.prices.items()},
    }
