"""The dataset contract: one small TOML file that says what a dataset is.

Everything downstream (table schemas, features, the API's request, the console's form) is derived from it.
The shipped contracts lie in `processing/contracts/`; `transactions.toml` there explains every key.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

HOME_KEY = "contract.toml"
TIME_FORMATS = ("iso", "unix", "elapsed")
# When an event can have been, in a file or a request.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)  # clocks differ; what lies further ahead of now is an error
# The squares of a window's amounts are summed in 64 bits: 92,000 events of 10^7 minor units each stay below 2^63.
LARGEST_MINOR = 10_000_000
LONGEST_DAYS = 366
LONGEST_TOLD = 80  # characters of a value, where a change is told
# Columns that tables, features and the job's own working have already.
RESERVED = (
    *("transaction_id", "event_time", "amount_minor", "is_fraud", "day", "amount", "hour", "weekend"),
    *("file", "line", "reason", "content", "known", "id", "told", "same", "place", "label", "changed", "clash", "new"),
    *("clashes", "us"),
)
# Each entry of a contract by its field: the one list of what there is.
ENTRIES = {
    "name": "name",
    "time": "columns.time",
    "amount": "columns.amount",
    "label": "columns.label",
    "id": "columns.id",
    "time_format": "time.format",
    "time_origin": "time.origin",
    "amount_decimals": "amount.decimals",
    "amount_maximum": "amount.maximum",
    "label_delay_days": "label.delay_days",
    "entities": "entity",
    "numeric": "numeric",
    "categorical": "categorical",
    "train_days": "split.train_days",
    "test_days": "split.test_days",
    "missed_fraud_cost": "costs.missed_fraud",
    "needless_alert_cost": "costs.needless_alert",
    "alerts_per_day": "costs.alerts_per_day",
    "refuse_above": "refuse_above",
}
# Those that say what is done with rows and features, not how they are read or made: they can change in a home with
# data. All others are bound to what is stored (tables, features, the online store, models).
FREE = (
    *("name", "amount_maximum", "train_days", "test_days", "missed_fraud_cost", "needless_alert_cost"),
    *("alerts_per_day", "refuse_above"),
)


@dataclass(frozen=True)
class Entity:
    """What behaviour is followed over time: a customer, a terminal, a merchant."""

    name: str
    column: str
    windows_days: tuple[int, ...]
    fraud_windows_days: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contract:
    """A dataset's contract. Amounts are in major units (euros), delays and windows in days."""

    name: str
    time: str
    amount: str
    label: str
    id: str | None = None
    time_format: str = "iso"
    time_origin: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    amount_decimals: int = 2
    amount_maximum: float = 100_000.0
    label_delay_days: int = 7
    entities: tuple[Entity, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: dict[str, tuple[str, ...]] = field(default_factory=dict)
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
        """SHA-256 of the entries that what is stored is bound to: contracts that share it can follow one another."""
        bound = {entry: value for name, entry in ENTRIES.items() if name not in FREE and (value := self._told(name))}
        return hashlib.sha256(json.dumps(bound).encode()).hexdigest()

    def changes(self, before: "Contract", *, bound: bool = False) -> list[str]:
        """Which entries differ from another contract's, in words; with `bound`, only those that data is bound to."""
        found = []
        for name, entry in ENTRIES.items():
            old, new = before._told(name), self._told(name)
            if old != new and not (bound and name in FREE):
                found.append(f"{entry} (was {_short(old)}, is {_short(new)})")
        return found

    def _told(self, name: str) -> Any:
        """The value of a field as JSON has it; "" for one that is not there."""
        value = getattr(self, name)
        if isinstance(value, datetime):
            return value.isoformat()
        if name == "entities":
            return [asdict(entity) for entity in value]
        return "" if value is None else value

    @property
    def minor_units(self) -> int:
        """How many minor units (cents) make a major one."""
        return int(10**self.amount_decimals)

    @property
    def columns(self) -> tuple[str, ...]:
        """The dataset's own columns, in the order of the contract; the label is last."""
        ids = (self.id,) if self.id else ()
        entities = tuple(entity.column for entity in self.entities)
        return (*ids, self.time, self.amount, *entities, *self.numeric, *self.categorical, self.label)

    @property
    def lookback_hours(self) -> int:
        """How far back an event can still move a feature."""
        reach = [max((0, *e.windows_days)) for e in self.entities]
        reach += [self.label_delay_days + max(e.fraud_windows_days) for e in self.entities if e.fraud_windows_days]
        return 24 * max((0, *reach))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
