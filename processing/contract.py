"""The dataset contract: one small TOML file that says what a dataset is.

Everything downstream (table schemas, features, the API's request, the console's form) is derived from it.
The shipped contracts lie in `processing/contracts/`; `transactions.toml` there explains every key.
"""

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from processing.errors import BadInput, NotFound
from processing.home import Home

SHIPPED = Path(__file__).parent / "contracts"
RESERVED = ("transaction_id", "event_time", "amount_minor", "is_fraud", "day", "amount", "hour", "weekend")
HOME_KEY = "contract.toml"
TIME_FORMATS = ("iso", "unix", "elapsed")


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


def load(name: str | Path) -> Contract:
    """The contract of that name (a shipped one) or in that file.

    Raises BadInput naming the key, what was found and what was expected.
    """
    path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(shipped())
        raise BadInput(f"no contract {str(name)!r}: give a .toml file, or one of the shipped contracts: {known}")
    return parse(path.read_text(encoding="utf-8"), str(path))


def of_home(home: Home, name: str | Path | None = None) -> Contract:
    """The contract of a home: the one it was begun with, or, in a new home, the one named (`transactions` if none).

    A home keeps one dataset, so its contract stays. Raises BadInput when another one is named.
    """
    try:
        kept = parse(home.read(HOME_KEY).decode(), home.url_of(HOME_KEY))
    except NotFound:
        contract = load(name or "transactions")
        home.write(HOME_KEY, contract.text.encode())
        return contract
    if name is not None and (asked := load(name)).digest != kept.digest:
        raise BadInput(
            f"the home {home.url} keeps data of the contract {kept.name!r} (its {HOME_KEY}), which {asked.name!r} "
            f"as given differs from; use another --home for another dataset"
        )
    return kept


def shipped() -> list[str]:
    """The names of the contracts that come with Fraudline."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def parse(text: str, source: str = "contract") -> Contract:
    """The contract that a TOML text says. `source` names it in errors. Raises BadInput."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source} is not valid TOML: {error}") from None
    table = _Table(document, source)
    columns, time = table.table("columns"), table.table("time", optional=True)
    amount, label = table.table("amount", optional=True), table.table("label", optional=True)
    split, costs = table.table("split", optional=True), table.table("costs", optional=True)
    contract = Contract(
        name=table.take("name", str),
        id=columns.take("id", str, None),
        time=columns.take("time", str),
        amount=columns.take("amount", str),
        label=columns.take("label", str),
        time_format=time.take("format", str, "iso"),
        time_origin=_utc(time.take("origin", datetime, datetime(1970, 1, 1, tzinfo=UTC))),
        amount_decimals=amount.take("decimals", int, 2, least=0, most=4),
        amount_maximum=amount.take("maximum", float, 100_000.0, least=0),
        label_delay_days=label.take("delay_days", int, 7, least=0),
        entities=tuple(_entity(entry) for entry in table.tables("entity")),
        numeric=tuple(table.take("numeric", list, [])),
        categorical={key: tuple(map(str, values)) for key, values in table.take("categorical", dict, {}).items()},
        train_days=split.take("train_days", int, 60, least=1),
        test_days=split.take("test_days", int, 7, least=1),
        missed_fraud_cost=costs.take("missed_fraud", float, 1.0, least=0),
        needless_alert_cost=costs.take("needless_alert", float, 3.0, least=0),
        alerts_per_day=costs.take("alerts_per_day", int, 100, least=1),
        refuse_above=table.take("refuse_above", float, 0.05, least=0, most=1),
        text=text,
    )
    for part in (table, columns, time, amount, label, split, costs):
        part.finish()
    _check(contract, source)
    return contract


def _entity(entry: "_Table") -> Entity:
    name = entry.take("name", str)
    windows = entry.take("windows_days", list)
    fraud_windows = entry.take("fraud_windows_days", list, [])
    for window in (*windows, *fraud_windows):
        if not isinstance(window, int) or not 0 < window <= 366:
            raise BadInput(f"{entry.source}: windows are whole days from 1 to 366, found {window!r}")
    if not windows:
        raise BadInput(f"{entry.source}: 'windows_days' of {name!r} is empty, expected e.g. [1, 7, 30]")
    entity = Entity(name, entry.take("column", str), tuple(sorted(windows)), tuple(sorted(fraud_windows)))
    entry.finish()
    return entity


def _check(contract: Contract, source: str) -> None:
    if contract.time_format not in TIME_FORMATS:
        allowed = ", ".join(TIME_FORMATS)
        raise BadInput(f"{source}: time.format is {contract.time_format!r}, expected one of {allowed}")
    named = [e.name for e in contract.entities] + [*contract.numeric, *contract.categorical]
    for names, what in ((contract.columns, "column"), (named, "entity or extra column")):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise BadInput(f"{source}: the {what} {twice[0]!r} is named twice")
    for name in named:
        if not name.isidentifier() or name in RESERVED:
            taken = ", ".join(RESERVED)
            raise BadInput(f"{source}: {name!r} cannot name a feature: use letters, digits and _, and none of {taken}")
    if any(not values for values in contract.categorical.values()):
        raise BadInput(f"{source}: a categorical column lists its known values, e.g. channel = ['chip', 'online']")


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Table:
    """A TOML table whose keys are taken one by one, so that a wrong or misspelt key is named."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values, self.source = values, source
        self.taken: set[str] = set()

    def take(
        self, key: str, kind: type, default: Any = ..., *, least: float = -math.inf, most: float = math.inf
    ) -> Any:
        self.taken.add(key)
        value: Any = self.values.get(key, default)
        if value is ...:
            raise BadInput(f"{self.source}: the key {key!r} is missing (expected {kind.__name__})")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {kind.__name__}")
        if isinstance(value, int | float) and not least <= value <= most:
            raise BadInput(f"{self.source}: {key} is {value!r}, expected {least} to {most}")
        return value

    def table(self, key: str, *, optional: bool = False) -> "_Table":
        values = self.take(key, dict, {} if optional else ...)
        return _Table(values, f"{self.source} [{key}]")

    def tables(self, key: str) -> list["_Table"]:
        return [_Table(values, f"{self.source} [[{key}]]") for values in self.take(key, list, [])]

    def finish(self) -> None:
        for key in self.values.keys() - self.taken:
            near = get_close_matches(key, self.taken, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(self.taken))}"
            raise BadInput(f"{self.source}: unknown key {key!r}{hint}")
