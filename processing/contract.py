"""The dataset contract: one small TOML file that says what a dataset is.

Everything downstream (table schemas, features, the API's request, the console's form) is derived from it.
The shipped contracts lie in `processing/contracts/`; `transactions.toml` there explains every key.
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from types import EllipsisType
from typing import Any

from processing.errors import BadInput, NotFound
from processing.home import Home, LocalHome
from processing.toml_keys import TomlTable

SHIPPED = Path(__file__).parent / "contracts"
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


def load(name: str | Path) -> Contract:
    """The contract of that name (a shipped one) or in that file.

    Raises BadInput naming the key, what was found and what was expected.
    """
    path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = shipped()
        near = get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}? Else give" if near else "give"
        raise BadInput(
            f"no contract {str(name)!r}: {hint} a .toml file, or one of the shipped contracts: {', '.join(known)}"
        )
    return parse_bytes(path.read_bytes(), str(path))


def of_home(home: Home) -> Contract:
    """The contract of a home. Raises BadInput for a home that has none yet, or one that cannot be read.

    Nothing is changed: what a run is to go by is `processing.home_contract`'s to say.
    """
    try:
        data = home.read(HOME_KEY)
    except NotFound:
        if isinstance(home, LocalHome) and not home.folder.is_dir():
            raise BadInput(f"there is no home at {home.folder}; `fraudline run` makes one, or name another") from None
        raise BadInput(
            f"the home {home.url} has no {HOME_KEY} yet, which the first run that takes data in writes: "
            "run `fraudline run` first, or name the home that you mean (--home, FRAUDLINE_HOME)"
        ) from None
    return parse_bytes(data, home.url_of(HOME_KEY))


def shipped() -> list[str]:
    """The names of the contracts that come with Fraudline."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def parse_bytes(data: bytes, source: str) -> Contract:
    """The contract that a file holds. `source` names the file in errors. Raises BadInput."""
    return parse(_decoded(data, source), source)


def parse(text: str, source: str = "contract") -> Contract:
    """The contract that a TOML text says. `source` names it in errors. Raises BadInput."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source} is not valid TOML: {error}") from None
    table = TomlTable(document, source)
    columns, time = table.table("columns"), table.table("time", optional=True)
    amount, label = table.table("amount", optional=True), table.table("label", optional=True)
    split, costs = table.table("split", optional=True), table.table("costs", optional=True)
    categorical = table.table("categorical", optional=True)
    decimals = amount.take("decimals", int, 2, least=0, most=4)
    most = LARGEST_MINOR / 10**decimals
    contract = Contract(
        name=table.take("name", str),
        id=columns.take("id", str, None),
        time=columns.take("time", str),
        amount=columns.take("amount", str),
        label=columns.take("label", str),
        time_format=time.take("format", str, "iso"),
        time_origin=_utc(time.take("origin", datetime, datetime(1970, 1, 1, tzinfo=UTC))),
        amount_decimals=decimals,
        amount_maximum=amount.take("maximum", float, min(100_000.0, most), least=0, most=most),
        label_delay_days=label.take("delay_days", int, 7, least=0, most=LONGEST_DAYS),
        entities=tuple(_entity(entry) for entry in table.tables("entity")),
        numeric=table.texts("numeric", []),
        categorical={name: categorical.texts(name, digits=True) for name in categorical.values},
        train_days=split.take("train_days", int, 60, least=1),
        test_days=split.take("test_days", int, 7, least=1),
        missed_fraud_cost=costs.take("missed_fraud", float, 1.0, least=0),
        needless_alert_cost=costs.take("needless_alert", float, 3.0, least=0),
        alerts_per_day=costs.take("alerts_per_day", int, 100, least=1),
        refuse_above=table.take("refuse_above", float, 0.05, least=0, most=1),
        text=text,
    )
    for part in (table, columns, time, amount, label, split, costs, categorical):
        part.finish()
    _check(contract, source)
    return contract


def _entity(entry: TomlTable) -> Entity:
    name = entry.take("name", str)
    if not entry.take("windows_days", list):
        raise BadInput(f"{entry.source}: 'windows_days' of {name!r} is empty, expected e.g. [1, 7, 30]")
    entity = Entity(
        name, entry.take("column", str), _windows(entry, "windows_days"), _windows(entry, "fraud_windows_days", [])
    )
    entry.finish()
    return entity


def _windows(entry: TomlTable, key: str, default: list[int] | EllipsisType = ...) -> tuple[int, ...]:
    windows = entry.take(key, list, default)
    for window in windows:
        if not isinstance(window, int) or isinstance(window, bool) or not 0 < window <= LONGEST_DAYS:
            raise BadInput(f"{entry.source}: windows are whole days from 1 to {LONGEST_DAYS}, found {window!r}")
        if windows.count(window) > 1:
            raise BadInput(f"{entry.source}: {key} has {window} twice")
    return tuple(sorted(windows))


def _check(contract: Contract, source: str) -> None:
    from processing.features import FeatureSet  # which is made from contracts

    if contract.time_format not in TIME_FORMATS:
        allowed = ", ".join(TIME_FORMATS)
        raise BadInput(f"{source}: time.format is {contract.time_format!r}, expected one of {allowed}")
    if any(not values for values in contract.categorical.values()):
        raise BadInput(f"{source}: a categorical column lists its known values, e.g. channel = ['chip', 'online']")
    entities = [entity.name for entity in contract.entities]
    named = [*entities, *contract.numeric, *contract.categorical]
    for names, what in ((contract.columns, "column"), (named, "entity or extra column")):
        if twice := _twice(names):
            raise BadInput(f"{source}: the {what} {twice!r} is named twice")
    for name in named:
        if not name.isidentifier() or name.casefold() in RESERVED:
            taken = ", ".join(RESERVED)
            raise BadInput(f"{source}: {name!r} cannot name a feature: use letters, digits and _, and none of {taken}")
    features = FeatureSet(contract)
    # Case does not tell columns apart in Spark. The extra columns are among the features already.
    if twice := _twice([name.casefold() for name in (*entities, *features.names, *features.state_names)]):
        raise BadInput(f"{source}: two columns or features would be called {twice!r}; rename an entity or a column")


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in sorted(names) if names.count(name) > 1), None)


def _decoded(data: bytes, source: str) -> str:
    """The text of a contract's file. Raises BadInput naming the line that is not UTF-8."""
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{source} line {line} is not UTF-8 text; save the file as UTF-8") from None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
