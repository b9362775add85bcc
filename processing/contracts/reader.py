"""Reads contracts: from TOML text, from a file, a shipped one by name, or that of a home."""

import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

from processing.contract import (
    HOME_KEY,
    LARGEST_MINOR,
    LONGEST_DAYS,
    RESERVED,
    TIME_FORMATS,
    Contract,
    DeclaredFeature,
    Entity,
)
from processing.contracts.entity_table import check_aggregates, entity_of
from processing.contracts.toml_table import TomlTable
from processing.errors import BadInput, NotFound
from processing.storage.home import Home
from processing.storage.local import LocalHome

SHIPPED = Path(__file__).parent


def load(name: str | Path) -> Contract:
    """A shipped contract by its name, or the contract in a file.

    Raises BadInput naming the key, its value and what was expected.
    """
    path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = shipped()
        near = get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}? Otherwise give" if near else "give"
        raise BadInput(
            f"no contract {str(name)!r}: {hint} a .toml file, or one of the shipped contracts: {', '.join(known)}"
        )
    return parse_bytes(path.read_bytes(), str(path))


def of_home(home: Home) -> Contract:
    """The contract of a home. Raises BadInput if it has none yet, or one that cannot be read.

    A run chooses its contract by `processing.contracts.home_contract.contract_for`.
    """
    try:
        data = home.read(HOME_KEY)
    except NotFound:
        if isinstance(home, LocalHome) and not home.folder.is_dir():
            raise BadInput(f"there is no home at {home.folder}; `fraudline run` makes one, or name another") from None
        raise BadInput(
            f"the home {home.url} has no {HOME_KEY} yet; the first run that commits data writes it: "
            "run `fraudline run` first, or name another home (--home, FRAUDLINE_HOME)"
        ) from None
    return parse_bytes(data, home.url_of(HOME_KEY))


def shipped() -> list[str]:
    """The names of the contracts that come with Fraudline."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def parse_bytes(data: bytes, source: str) -> Contract:
    """The contract in a file's bytes. `source` names the file in errors. Raises BadInput."""
    return parse(_decoded(data, source), source)


def parse(text: str, source: str = "contract") -> Contract:
    """The contract in a TOML text. `source` names it in errors. Raises BadInput."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source} is not valid TOML: {error}") from None
    table = TomlTable(document, source)
    columns, time = table.table("columns"), table.table("time", optional=True)
    amount, label = table.table("amount", optional=True), table.table("label", optional=True)
    _check_currency(columns, amount)
    split, costs = table.table("split", optional=True), table.table("costs", optional=True)
    categorical = table.table("categorical", optional=True)
    decimals = amount.take("decimals", int, 2, least=0, most=4)
    most = LARGEST_MINOR / 10**decimals
    zone = _zone(time)
    contract = Contract(
        name=table.take("name", str),
        id=columns.take("id", str, None),
        time=columns.take("time", str),
        amount=columns.take("amount", str),
        label=columns.take("label", str),
        time_format=time.take("format", str, "iso"),
        time_origin=_utc(time.take("origin", datetime, datetime(1970, 1, 1, tzinfo=UTC)), zone, time.source),
        time_zone=zone,
        amount_decimals=decimals,
        amount_maximum=amount.take("maximum", float, min(100_000.0, most), least=0, most=most),
        refunds=amount.flag("refunds"),
        label_delay_days=label.take("delay_days", int, 7, least=0, most=LONGEST_DAYS),
        entities=tuple(_entity(entry) for entry in table.tables("entity")),
        numeric=table.texts("numeric", []),
        declared=tuple(_declared(entry) for entry in table.tables("feature")),
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


def _declared(entry: TomlTable) -> DeclaredFeature:
    feature = DeclaredFeature(entry.take("name", str), entry.take("is", str), entry.take("says", str, None) or "")
    entry.finish()
    return feature


def _entity(entry: TomlTable) -> Entity:
    entity = entity_of(entry)
    entry.finish()
    return entity


def _check(contract: Contract, source: str) -> None:
    from processing.features.feature_set import FeatureSet  # imports NumPy, which `fraudline --help` does without
    from processing.features.words import parse_words

    if contract.time_format not in TIME_FORMATS:
        allowed = ", ".join(TIME_FORMATS)
        raise BadInput(f"{source}: time.format is {contract.time_format!r}, expected one of {allowed}")
    if any(not values for values in contract.categorical.values()):
        raise BadInput(f"{source}: a categorical column lists its known values, e.g. channel = ['chip', 'online']")
    entities = [entity.name for entity in contract.entities]
    alone = {entity.identifier for entity in contract.entities}
    shared = [column for column in contract.key_columns if column not in alone]  # tables have them under their own name
    declared = [feature.name for feature in contract.declared]
    named = [*entities, *shared, *contract.numeric, *contract.categorical, *declared]
    for entity, other in combinations(contract.entities, 2):
        if set(entity.columns) == set(other.columns):
            columns = ", ".join(entity.columns)
            raise BadInput(
                f"{source}: the entities {entity.name!r} and {other.name!r} are both identified by {columns}; keep one"
            )
    for names, what in ((contract.columns, "column"), (named, "entity, extra column or feature")):
        if twice := _twice(names):
            raise BadInput(f"{source}: the {what} {twice!r} is named twice")
    for name in named:
        if not name.isidentifier() or name.casefold() in RESERVED:
            raise BadInput(
                f"{source}: {name!r} cannot name a feature: use letters, digits and _, and none of "
                f"{', '.join(RESERVED)}" + ("; or give it an entity of its own" if name in shared else "")
            )
    check_aggregates(contract, source)
    for feature in contract.declared:
        if feature.says:
            parse_words(feature.says, feature.name, f"{source}, 'says' of the feature {feature.name!r}")
    features = FeatureSet(contract)
    try:
        features.declared.check()
    except BadInput as error:
        raise BadInput(f"{source}: {error}") from None
    # Spark ignores case in column names. The extra columns are among the features already.
    if twice := _twice([name.casefold() for name in (*entities, *shared, *features.names, *features.state_names)]):
        raise BadInput(f"{source}: two columns or features would be called {twice!r}; rename an entity or a column")


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in sorted(names) if names.count(name) > 1), None)


def _decoded(data: bytes, source: str) -> str:
    """The text in a file's bytes. Raises BadInput naming the line that is not UTF-8."""
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{source} line {line} is not UTF-8 text; save the file as UTF-8") from None


def _zone(time: TomlTable) -> str | None:
    """The time zone that [time] names. Raises BadInput for one that is not known."""
    zone: str | None = time.take("zone", str, None)
    if zone is None:
        return None
    from processing.features.local_time import clock_of  # imports NumPy

    try:
        return clock_of(zone).zone
    except BadInput as error:
        raise BadInput(f"{time.source}: {error}") from None


def _utc(moment: datetime, zone: str | None, source: str) -> datetime:
    """A moment in UTC. One without an offset is a local time of the zone. Raises BadInput for one that it skips."""
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    if zone is None:
        return moment.replace(tzinfo=UTC)
    from processing.features.local_time import clock_of

    time_us = clock_of(zone).utc_of(moment)
    if time_us is None:
        raise BadInput(f"{source}: origin is a time that clocks in {zone} skip; give it an offset, e.g. +01:00")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def _check_currency(*tables: TomlTable) -> None:
    for table in tables:
        if "currency" in table.values:
            raise BadInput(
                f"{table.source}: 'currency' cannot be set, because the amounts of a dataset are in one currency: they "
                "are added up as they are, so yen and euros would be summed as if they were the same. Convert amounts "
                "in other currencies by the rate of their day before they come in, in files and requests alike"
            )
