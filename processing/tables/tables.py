"""The Apache Iceberg tables of a home: transactions, features and quarantine.

The feature job writes Parquet files, one or more a day, and commits them here. A commit replaces whole days, all or
nothing, and leaves a snapshot whose rows can be read again. Days are numbered from 1970-01-01. Opening and reading
changes nothing: a table is created by the first commit to it.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError, ValidationException
from pyiceberg.table import Table, TableProperties, Transaction

from processing.contract import Contract
from processing.errors import Conflict, NotFound
from processing.storage.home import Home
from processing.tables.catalog import catalog_errors, create_catalog, namespace, open_catalog
from processing.tables.data_files import check_footers, count_rows, read_rows
from processing.tables.definitions import (
    create_table,
    load_table,
    missing_columns,
    raise_if_lost,
    set_aside,
    stored_schema,
)
from processing.tables.locations import key_of, location_of
from processing.tables.schemas import definition_digest, features_schema, quarantine_schema, transaction_schema
from processing.tables.snapshots import (
    DEFINITION,
    MADE_FROM,
    day_of,
    definition_of,
    made_from,
    scan_tasks,
    snapshot_id,
)


class Tables:
    """The tables of a home for a contract, as they were when opened or last committed to.

    `transactions`, `features` and `quarantine` are Iceberg tables. Each raises NotFound before its first commit, and
    `features` also if those in the table are defined differently. Damage to Iceberg's files raises Damaged.
    """

    def __init__(self, home: Home, contract: Contract) -> None:
        self.home, self.namespace = home, namespace(home)
        self.schemas = {
            "transactions": transaction_schema(contract),
            "features": features_schema(contract),
            "quarantine": quarantine_schema(),
        }
        self._definition = definition_digest(contract)
        self._tables: dict[str, Table] = {}
        self._checked: set[str] = set()
        try:
            self._catalog: Catalog | None = open_catalog(home)
        except NotFound:
            self._catalog = None
            raise_if_lost(home, None, "transactions")
            return
        for name in self.schemas:
            if table := self._load(name):
                self._tables[name] = table

    @property
    def transactions(self) -> Table:
        return self._existing("transactions")

    @property
    def features(self) -> Table:
        return self._existing("features")

    @property
    def quarantine(self) -> Table:
        return self._existing("quarantine")

    def find(self, name: str) -> Table | None:
        """A table by its name; None before the first commit to it."""
        return self._tables.get(name)

    @property
    def features_are_current(self) -> bool:
        """Whether the features were computed from the present transactions, and as the contract defines them.

        Not so after a crash between the two, and after the contract has changed.
        """
        features = self.find("features")
        up_to_date = made_from(features) == snapshot_id(self.find("transactions"))
        return up_to_date and (features is None or definition_of(features) == self._definition)

    def stored_schema(self, name: str) -> pa.Schema:
        """The columns of a table: those of the contract, then those that only earlier contracts had."""
        return stored_schema(self.find(name), self.schemas[name])

    def has_snapshot(self, name: str, snapshot: int) -> bool:
        """Whether a table still knows one of its snapshots."""
        table = self.find(name)
        return table is not None and table.snapshot_by_id(snapshot) is not None

    def files_by_day(self, name: str, snapshot: int | None = None) -> dict[int, list[str]]:
        """The keys of a table's files, by day, as of the newest commit, or of an earlier snapshot."""
        days: dict[int, list[str]] = {}
        for task in scan_tasks(self.find(name), snapshot):
            days.setdefault(day_of(task), []).append(key_of(self.home, task.file.file_path))
        return dict(sorted(days.items()))

    def folder(self, name: str) -> str:
        """The key of a table's folder. The files of a run belong into data/<run>/ of it."""
        table = self.find(name)
        if table is None:
            return f"warehouse/{self.namespace}/{name}"
        return key_of(self.home, f"{table.location()}/data/x").removesuffix("/data/x")

    def replace_days(
        self, name: str, days: Collection[int], keys: Sequence[str], *, made_from: int | None = None
    ) -> None:
        """Replace all rows of `days` by those in the files `keys`, Parquet of one day each, in one atomic commit.

        `made_from` notes the snapshot of the transactions that the rows were computed from. Raises Conflict if someone
        else has committed since the table was opened; then nothing is changed. After any other error only the catalog
        knows whether the commit succeeded.
        """
        with self._committing(name) as change:
            if present := sorted(set(days) & set(self.files_by_day(name))):
                change.delete(_within(present))
            if keys:
                change.add_files([location_of(self.home, key) for key in keys])
            if made_from is not None:
                change.set_properties({MADE_FROM: str(made_from), DEFINITION: self._definition})

    def append(self, name: str, key: str) -> None:
        """Commit the rows of one more file. Raises as `replace_days` does."""
        with self._committing(name) as change:
            change.add_files([location_of(self.home, key)])

    def read(self, name: str, days: Collection[int] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some days (None: all), or some of their columns, as of the newest commit. Raises Damaged."""
        return read_rows(
            self.home, self.find(name), self.stored_schema(name), days, columns or self.schemas[name].names
        )

    def check_footers(self, name: str, keys: Collection[str]) -> None:
        """Check the footers of files, which no checksum covers, before reading them other than by `read`.

        Skips files that are not committed, and those that were checked before. Raises Damaged.
        """
        unchecked = set(keys) - self._checked
        check_footers(self.home, self.find(name), self.stored_schema(name), unchecked)
        self._checked |= unchecked

    def rows_read_back(self, name: str, days: Collection[int]) -> int:
        """The number of rows of some days, read from the files that the catalog names now."""
        return count_rows(self._load(name), days)

    @contextmanager
    def _committing(self, name: str) -> Iterator[Transaction]:
        try:
            with catalog_errors(self.home):
                table = self.find(name) or self._create(name)
            # On a conflict Iceberg would retry an append on top of the other commit. A run's rows, however, are
            # computed from the very snapshot that it has read.
            once = {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}
            table.metadata = table.metadata.model_copy(update={"properties": once})
            with catalog_errors(self.home), table.transaction() as change:
                if missing := missing_columns(table, self.schemas[name]):
                    with change.update_schema() as schema:
                        for column, kind in missing.items():
                            schema.add_column(column, kind)
                yield change
        except (CommitFailedException, ValidationException, TableAlreadyExistsError) as error:
            raise Conflict(f"another run changed the table {name} meanwhile: {error}") from error

    def _create(self, name: str) -> Table:
        """Create a table, and set aside features that are defined differently. Raises Conflict if it exists by now."""
        catalog = self._catalog = create_catalog(self.home)
        if catalog.table_exists((self.namespace, name)):
            if self._load(name) is not None:
                raise Conflict(f"another run created the table {name} meanwhile")
            set_aside(self.home, catalog, name)
        self._tables[name] = create_table(self.home, catalog, name, self.schemas[name])
        return self._tables[name]

    def _existing(self, name: str) -> Table:
        table = self.find(name)
        if table is None:
            raise NotFound(f"the home {self.home.url} has no {name} yet; `fraudline run` creates them")
        return table

    def _load(self, name: str) -> Table | None:
        assert self._catalog is not None
        return load_table(self.home, self._catalog, name, self.schemas[name], self._definition)


def open_tables(home: Home, contract: Contract) -> Tables:
    """The tables of a home. Raises Damaged for what cannot be read, and for a home whose catalog is lost."""
    return Tables(home, contract)


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
