"""Reads one [[entity]] table of a contract: its windows and what is aggregated over them.

An entity has either `windows_days`, whole days that consist of whole hours, or `windows`, e.g. ["10m", "1h", "7d"].
"""

from types import EllipsisType

from processing.contract import AGGREGATES, LONGEST_DAYS, Aggregate, Contract, Entity
from processing.contracts.toml_table import TomlTable
from processing.durations import HOUR_US, parse_duration, tile_of
from processing.errors import BadInput

DAYS, TILES = ("windows_days", "fraud_windows_days"), ("windows", "fraud_windows", "aggregates", "busy")
DEFAULT_AGGREGATES = ["count", "amount"]


def entity_of(entry: TomlTable) -> Entity:
    """The entity in a table. Raises BadInput."""
    name = entry.take("name", str)
    columns = _columns(entry, name)
    in_days = [key for key in DAYS if key in entry.values]
    if in_days and (other := [key for key in TILES if key in entry.values]):
        raise BadInput(
            f"{entry.source}: {name!r} has {in_days[0]!r} and {other[0]!r}; write windows_days = [1, 7] as "
            "windows = ['1d', '7d'], fraud_windows_days likewise, to use the others beside them"
        )
    return _in_days(entry, name, columns) if in_days else _in_tiles(entry, name, columns)


def check_aggregates(contract: Contract, source: str) -> None:
    """Raise BadInput if an entity aggregates a column that it cannot: one of another kind, or one of its own."""
    keys, categories, numbers = contract.key_columns, tuple(contract.categorical), contract.numeric
    kinds = {
        "share": ("categorical columns", categories),
        "distinct": ("columns that identify other entities and categorical columns", (*keys, *categories)),
        "last": ("numeric columns", numbers),
    }
    entries = [(entity, entry) for entity in contract.entities for entry in entity.aggregates]
    for entity, entry, column in ((*both, column) for both in entries for column in both[1].columns):
        what, known = kinds[entry.kind]
        if column in entity.columns:
            why = f"but {column!r} identifies {entity.name!r} itself"
        elif column not in known:
            allowed = [name for name in known if name not in entity.columns]
            why = f"but {entry.kind!r} is for {what}: {', '.join(allowed) or 'there are none'}"
        elif not column.isidentifier():
            why = f"but {column!r} cannot be part of a feature's name: use letters, digits and _"
        else:
            continue
        raise BadInput(f"{source}: aggregates of {entity.name!r} has {entry.text!r}, {why}")


def _columns(entry: TomlTable, name: str) -> tuple[str, ...]:
    if "columns" not in entry.values:
        return (entry.take("column", str),)
    if "column" in entry.values:
        raise BadInput(f"{entry.source}: {name!r} has both 'column' and 'columns'; keep the one you mean")
    columns = entry.texts("columns")
    if not columns:
        raise BadInput(f"{entry.source}: 'columns' of {name!r} is empty, expected e.g. ['customer_id', 'terminal_id']")
    return columns


def _in_days(entry: TomlTable, name: str, columns: tuple[str, ...]) -> Entity:
    if not entry.take("windows_days", list):
        raise BadInput(f"{entry.source}: 'windows_days' of {name!r} is empty, expected e.g. [1, 7, 30]")
    windows, frauds = _days(entry, "windows_days"), _days(entry, "fraud_windows_days", [])
    return Entity(name, columns, windows, frauds, whole_days=True)


def _days(entry: TomlTable, key: str, default: list[int] | EllipsisType = ...) -> tuple[str, ...]:
    windows = entry.take(key, list, default)
    for window in windows:
        if not isinstance(window, int) or isinstance(window, bool) or not 0 < window <= LONGEST_DAYS:
            raise BadInput(f"{entry.source}: windows are whole days from 1 to {LONGEST_DAYS}, found {window!r}")
        if windows.count(window) > 1:
            raise BadInput(f"{entry.source}: {key} has {window} twice")
    return tuple(f"{days}d" for days in sorted(windows))


def _in_tiles(entry: TomlTable, name: str, columns: tuple[str, ...]) -> Entity:
    windows = _windows(entry, "windows")
    if not windows:
        raise BadInput(f"{entry.source}: 'windows' of {name!r} is empty, expected e.g. ['1h', '1d', '30d']")
    frauds = _windows(entry, "fraud_windows", [])
    for fraud in frauds:
        if parse_duration(fraud).us < HOUR_US:
            raise BadInput(f"{entry.source}: fraud_windows has {fraud!r}; a window over frauds is an hour or longer")
    tile_us = max((tile_of(parse_duration(text).us) for text in frauds), default=1)
    if odd := [text for text in frauds if parse_duration(text).us % tile_us]:
        raise BadInput(
            f"{entry.source}: fraud_windows has {odd[0]!r}, which is no multiple of a day, the tile of {frauds[-1]!r}"
        )
    texts = entry.texts("aggregates", DEFAULT_AGGREGATES)
    aggregates = tuple(_aggregate(text, entry.source) for text in texts)
    uses = [f"{entry.kind}:{column}" for entry in aggregates for column in entry.columns]
    if twice := [use for use in uses if uses.count(use) > 1]:
        raise BadInput(f"{entry.source}: aggregates has {twice[0]!r} twice")
    if "count" not in texts:
        aggregates = (Aggregate("count"), *aggregates)
    return Entity(name, columns, windows, frauds, aggregates, busy=entry.flag("busy"))


def _windows(entry: TomlTable, key: str, default: list[str] | EllipsisType = ...) -> tuple[str, ...]:
    durations = []
    for text in entry.take(key, list, default):
        try:
            durations.append(parse_duration(text))
        except BadInput as error:
            raise BadInput(f"{entry.source}: {key} has {error}") from None
        if len({each.us for each in durations}) < len(durations):
            raise BadInput(f"{entry.source}: {key} has {text!r} twice")
    return tuple(each.text for each in sorted(durations))


def _aggregate(text: str, source: str) -> Aggregate:
    kind, _, columns = text.partition(":")
    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    if kind not in AGGREGATES:
        raise BadInput(f"{source}: aggregates has {text!r}, expected one of {', '.join(AGGREGATES.values())}")
    fewest, most = (0, 0) if ":" not in AGGREGATES[kind] else (1, 8 if kind == "last" else 1)
    if not fewest <= len(names) <= most or not all(names):
        raise BadInput(f"{source}: aggregates has {text!r}, expected {AGGREGATES[kind]!r}")
    return Aggregate(kind, names)
