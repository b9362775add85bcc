"""The Apache Iceberg tables of a home: transactions, features and quarantine.

Whoever computes rows writes Parquet files, one day a file; here they are committed. A commit replaces whole days,
all or nothing, and leaves a snapshot whose rows can be read again. Days are numbered from 1970-01-01.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from processing.catalog import namespace, open_catalog
from processing.contract import Contract
from processing.errors import Conflict
from processing.home import Home
from processing.schemas import features_schema, quarantine_schema, transaction_schema

MADE_FROM = "fraudline.transactions-snapshot"


@dataclass(frozen=True)
class Tables:
    """The three tables of a home. `catalog` can list and query them like any Iceberg catalog."""

    catalog: Catalog
    transactions: Table
    features: Table
    quarantine: Table

    @property
    def features_are_current(self) -> bool:
        """Whether the features were made from the transactions as they stand (not so after a crash between both)."""
        return made_from(self.features) == snapshot_id(self.transactions)


def open_tables(home: Home, contract: Contract) -> Tables:
    """The tables of a home, made if there are none yet. Features of another definition are set aside, whole."""
    catalog, space = open_catalog(home), namespace(home)
    return Tables(
        catalog,
        _open(catalog, (space, "transactions"), transaction_schema(contract), by_day=True),
        _open(catalog, (space, "features"), features_schema(contract), by_day=True),
        _open(catalog, (space, "quarantine"), quarantine_schema(), by_day=False),
    )


def _open(catalog: Catalog, identifier: tuple[str, str], schema: pa.Schema, *, by_day: bool) -> Table:
    if catalog.table_exists(identifier):
        table = catalog.load_table(identifier)
        if table.schema().as_arrow().names == schema.names:
            return table
        space, name = identifier
        catalog.rename_table(identifier, (space, f"{name}_until_{datetime.now(UTC):%Y%m%dt%H%M%S}"))
    loose = pa.schema([field.with_nullable(True) for field in schema])  # Spark writes every column as optional
    table = catalog.create_table(identifier, loose)
    if by_day:
        with table.update_spec() as spec:
            spec.add_field("event_time", DayTransform(), "day")
    return table


def snapshot_id(table: Table) -> int | None:
    """The id of the snapshot a table stands at; None while it is empty."""
    snapshot = table.current_snapshot()
    return snapshot.snapshot_id if snapshot else None


def made_from(table: Table) -> int | None:
    """The transactions' snapshot that a features table was last made from."""
    found = table.properties.get(MADE_FROM)
    return int(found) if found else None


def files_by_day(table: Table) -> dict[int, list[str]]:
    """The addresses of a table's files, by day, as of its newest commit."""
    days: dict[int, list[str]] = {}
    for task in table.scan().plan_files():
        days.setdefault(int(task.file.partition[0]), []).append(task.file.file_path)
    return dict(sorted(days.items()))


def row_counts(table: Table, *, labelled: bool = False) -> dict[int, int]:
    """How many rows there are (or only those with a label), by day, from the table's metadata alone."""
    label = table.schema().find_field("is_fraud").field_id
    days: dict[int, int] = {}
    for task in table.scan().plan_files():
        day, unlabelled = int(task.file.partition[0]), (task.file.null_value_counts or {}).get(label, 0)
        days[day] = days.get(day, 0) + task.file.record_count - (unlabelled if labelled else 0)
    return dict(sorted(days.items()))


def replace_days(table: Table, days: Collection[int], files: Sequence[str], *, made_from: int | None = None) -> None:
    """Commit: all rows of `days` give way to those in `files`, Parquet of one day each. Atomic.

    `made_from` notes the transactions' snapshot that the rows were computed from. Raises Conflict when someone
    else has committed since the table was opened; nothing is changed then.
    """
    try:
        with table.transaction() as change:
            if present := sorted(set(days) & set(files_by_day(table))):
                change.delete(_within(present))
            if files:
                change.add_files(list(files))
            if made_from is not None:
                change.set_properties({MADE_FROM: str(made_from)})
    except CommitFailedException as error:
        raise Conflict(f"another run changed the table {'.'.join(table.name())} meanwhile: {error}") from error


def append(table: Table, rows: list[dict[str, Any]]) -> None:
    """Commit further rows. Atomic."""
    table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))


def _within(days: Sequence[int]) -> str:
    ranges: list[list[int]] = []
    for day in days:
        if ranges and day == ranges[-1][1]:
            ranges[-1][1] += 1
        else:
            ranges.append([day, day + 1])
    return " or ".join(f"(event_time >= '{_midnight(a)}' and event_time < '{_midnight(b)}')" for a, b in ranges)


def _midnight(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).isoformat()
