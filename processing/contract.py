"""The dataset contract: one small TOML file that describes a dataset.

Table schemas, features, the API's request and the console's form are all derived from it. The shipped contracts are in
`processing/contracts/`; `transactions.toml` there explains every key.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from processing.durations import HOUR_US, HOURLY_UP_TO_US, parse_duration

HOME_KEY = "contract.toml"
TIME_FORMATS = ("iso", "unix", "elapsed")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # event time, in a file or a request
CLOCK_SKEW = timedelta(days=1)  # by which an event time may be ahead of now
LARGEST_MINOR = 10**12  # of one amount, in minor units; nine million of them add up to less than 2^63
LONGEST_DAYS = 366
LONGEST_SHOWN = 80  # characters of a value in a list of changes
# Columns that tables, features and the feature job use themselves.
RESERVED = (
    *("transaction_id", "event_time", "amount_minor", "is_fraud", "day", "amount", "hour", "weekend"),
    *("file", "line", "reason", "content", "known", "id", "told", "same", "place", "label", "changed", "clash", "new"),
    *("clashes", "us"),
)
# What can be aggregated over windows, and how a contract writes it.
AGGREGATES = {
    "count": "count",
    "amount": "amount",
    "extremes": "extremes",
    "recency": "recency",
    "share": "share:<column>",
    "distinct": "distinct:<column>",
    "last": "last:<column>,<column>...",
}
# The entry of a contract that each field holds: the one list of all entries.
ENTRIES = {
    "name": "name",
    "time": "columns.time",
    "amount": "columns.amount",
    "label": "columns.label",
    "id": "columns.id",
    "time_format": "time.format",
    "time_origin": "time.origin",
    "time_zone": "time.zone",
    "amount_decimals": "amount.decimals",
    "amount_maximum": "amount.maximum",
    "refunds": "amount.refunds",
    "label_delay_days": "label.delay_days",
    "entities": "entity",
    "numeric": "numeric",
    "categorical": "categorical",
    "declared": "feature",
    "train_days": "split.train_days",
    "test_days": "split.test_days",
    "missed_fraud_cost": "costs.missed_fraud",
    "needless_alert_cost": "costs.needless_alert",
    "alerts_per_day": "costs.alerts_per_day",
    "refuse_above": "refuse_above",
}
# The entries that say what stored rows mean: they never change in a home with data. What else is refused there is in
# `processing.contracts.contract_change`.
LASTING = ("id", "time", "amount", "label", "time_format", "time_origin", "amount_decimals")


class Aggregate(NamedTuple):
    """What is aggregated over the windows of an entity: a key of AGGREGATES, and the columns that it reads."""

    kind: str
    columns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As a contract writes it."""
        return ":".join((self.kind, *([",".join(self.columns)] if self.columns else [])))


@dataclass(frozen=True)
class Entity:
    """Something whose behaviour is followed over time: a customer, a terminal, a merchant.

    columns: the columns of the dataset that identify it
    windows, fraud_windows: lengths of time, such as "7d", shortest first
    busy: events of the same minute, instead of the same second, do not see each other
    whole_days: given as `windows_days`: windows of whole hours, with frauds known exactly a label delay later
    """

    name: str
    columns: tuple[str, ...]
    windows: tuple[str, ...]
    fraud_windows: tuple[str, ...] = ()
    aggregates: tuple[Aggregate, ...] = (Aggregate("count"), Aggregate("amount"))
    busy: bool = False
    whole_days: bool = False

    @property
    def identified_by(self) -> str:
        """Its columns as text."""
        return ", ".join(self.columns)

    @property
    def identifier(self) -> str | tuple[str, ...]:
        """Its column, or all of them if it has several."""
        return self.columns[0] if len(self.columns) == 1 else self.columns


class DeclaredFeature(NamedTuple):
    """A feature by an expression (see `processing.features.expressions`).

    says: how its value reads as a reason, e.g. "{value:.1f}x this customer's mean"; empty to show name and value
    """

    name: str
    expression: str
    says: str = ""


@dataclass(frozen=True)
class Contract:
    """A dataset's contract. Amounts are in major units (euros), delays and windows in days.

    time_zone: whose clock gives hours and weekends, and times without an offset; None for UTC
    refunds: whether amounts may be negative
    """

    name: str
    time: str
    amount: str
    label: str
    id: str | None = None
    time_format: str = "iso"
    time_origin: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    time_zone: str | None = None
    amount_decimals: int = 2
    amount_maximum: float = 100_000.0
    refunds: bool = False
    label_delay_days: int = 7
    entities: tuple[Entity, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: dict[str, tuple[str, ...]] = field(default_factory=dict)
    declared: tuple[DeclaredFeature, ...] = ()
    train_days: int = 60
    test_days: int = 7
    missed_fraud_cost: float = 1.0
    needless_alert_cost: float = 3.0
    alerts_per_day: int = 100
    refuse_above: float = 0.05
    text: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the contract's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the entries that say what stored rows mean. All contracts that a home ever has share it."""
        lasting = {ENTRIES[name]: value for name in LASTING if (value := self._value(name))}
        return hashlib.sha256(json.dumps(lasting).encode()).hexdigest()

    def changes(self, before: "Contract", only: Collection[str] = tuple(ENTRIES)) -> list[str]:
        """The entries that differ from another contract's, in words; `only` those of some fields."""
        return [
            f"{entry} (was {_short(old)}, is {_short(new)})"
            for name, entry in ENTRIES.items()
            if name in only and (old := before._value(name)) != (new := self._value(name))
        ]

    def _value(self, name: str) -> Any:
        """The value of a field for JSON; "" for one that is not set."""
        value = getattr(self, name)
        if isinstance(value, datetime):
            return value.isoformat()
        if name == "entities":
            return [_entity_entries(entity) for entity in value]
        return "" if value is None else value

    @property
    def amount_minimum(self) -> float:
        """The least amount that is accepted."""
        return -self.amount_maximum if self.refunds else 0.0

    @property
    def minor_units(self) -> int:
        """How many minor units (cents) make up a major one."""
        return int(10**self.amount_decimals)

    @property
    def columns(self) -> tuple[str, ...]:
        """The dataset's own columns, in the order of the contract; the label is last."""
        ids = (self.id,) if self.id else ()
        return (*ids, self.time, self.amount, *self.key_columns, *self.numeric, *self.categorical, self.label)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that identify entities, each once however many entities use it, in the order of first use."""
        return tuple(dict.fromkeys(column for entity in self.entities for column in entity.columns))

    @property
    def key_names(self) -> tuple[str, ...]:
        """The name of each key column in tables: that of the entity that it alone identifies, else the column's own."""
        return tuple(self._key_name(column) for column in self.key_columns)

    def key_names_of(self, entity: Entity) -> tuple[str, ...]:
        """The names of an entity's columns, as in `key_names`."""
        return tuple(self._key_name(column) for column in entity.columns)

    def _key_name(self, column: str) -> str:
        return next((entity.name for entity in self.entities if entity.identifier == column), column)

    @property
    def lookback_hours(self) -> int:
        """How long before an event another one can still change its features."""
        reach = [_hours(each, each.windows[-1]) for each in self.entities]
        frauds = [_hours(each, each.fraud_windows[-1]) for each in self.entities if each.fraud_windows]
        return max((0, *reach, *(24 * self.label_delay_days + hours for hours in frauds)))


def _entity_entries(entity: Entity) -> dict[str, Any]:
    """The entries of an [[entity]] table."""
    identity = {
        "name": entity.name,
        "column" if len(entity.columns) == 1 else "columns": entity.identifier,
    }
    if entity.whole_days:
        days = ([int(text[:-1]) for text in texts] for texts in (entity.windows, entity.fraud_windows))
        return identity | dict(zip(("windows_days", "fraud_windows_days"), days, strict=True))
    aggregates = [aggregate.text for aggregate in entity.aggregates]
    windows = {"windows": entity.windows, "fraud_windows": entity.fraud_windows, "aggregates": aggregates}
    return identity | windows | {"busy": entity.busy}


def _hours(entity: Entity, window: str) -> int:
    """The hours of a window, rounded up to the tiles it consists of."""
    us = parse_duration(window).us
    return -(-us // HOUR_US) + (0 if entity.whole_days or us <= HOURLY_UP_TO_US else 24)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
