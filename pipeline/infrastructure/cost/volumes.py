"""What a month's bill is computed for: the volumes that a user gives, and what is assumed about the rest."""

from dataclasses import dataclass, fields

from processing.errors import BadInput

MAXIMUM = 1e15


@dataclass(frozen=True)
class Volumes:
    """The volumes of one month.

    transactions: scored by the API, and read by the next run
    runs: of the pipeline
    tasks: of the API, running all the time
    data_gb: stored in the home
    feature_minutes: of a run's feature job
    training_minutes: of a run's training, and again of its evaluation
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
            if not 0 <= value <= MAXIMUM:
                option = field.name.replace("_", "-")
                raise BadInput(f"--{option} is {value}: give a number from 0 to 1e15")


@dataclass(frozen=True)
class Assumptions:
    """What neither the volumes nor the stack determine.

    read_units, write_units: of DynamoDB, for a decision under the contract `transactions` about a customer who pays
        three times a day, at a terminal with ten payments a day. Its one strongly consistent read requests three items:
        the decision, and for both entities the profile. Its one transaction writes these, of which the terminal's
        profile has up to three kB, and two list entries, at two units a kB, and the index. A flagged transaction writes
        one more entry. An entity that the contract declares busy reads 64 units more.
    refresh_units: that the feature job writes per transaction, if each were the only one of its entities since the last
        run: the profiles of both
    item_bytes, entry_bytes, kept_months: of a decision in the online store, and of its list entries
    log_bytes, wire_bytes: of a decision, in the log and through the load balancer
    polls_per_second: how often a task looks for a newly promoted model
    pollers, poll_seconds: Lambda's polling of a queue
    requests_per_run: reads and writes of S3
    invocations_per_run: of Lambda functions, a second each
    invocations: of Lambda functions besides, a month
    metrics: of Container Insights and our own
    images, image_gb: in the registry, compressed
    """

    read_units: float = 3
    write_units: float = 15
    refresh_units: float = 4
    item_bytes: float = 1000
    entry_bytes: float = 500
    kept_months: float = 13
    log_bytes: float = 350
    wire_bytes: float = 1500
    polls_per_second: float = 1
    pollers: float = 5
    poll_seconds: float = 20
    requests_per_run: float = 20_000
    invocations_per_run: float = 20
    invocations: float = 31
    metrics: float = 33
    images: float = 5
    image_gb: float = 0.33


ASSUMED = Assumptions()
