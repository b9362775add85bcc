"""The Apache Iceberg tables of a home: transactions, features and quarantine.

Whoever computes rows writes Parquet files, one day a file; here they are committed. A commit replaces whole days,
all or nothing, and leaves a snapshot whose rows can be read again. Days are numbered from 1970-01-01. Opening and
reading changes nothing: a table is made by the first commit to it.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError, ValidationException
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table, TableProperties, Transaction
from pyiceberg.transforms import DayTransform
from pyiceberg.types import DoubleType, IcebergType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from processing.aws_client import refusal
from processing.contract import Contract
from processing.errors import BadInput, Conflict, Damaged, FraudlineError, NotFound
from processing.storage.home import Home
from processing.tables.catalog import REPAIR, answering, make_catalog, namespace, open_catalog
from processing.tables.locations import key_of, location_of
from processing.tables.parquet import READ, check_footer, first_line
from processing.tables.schemas import TIME, features_schema, quarantine_schema, transaction_schema

MADE_FROM = "fraudline.transactions-snapshot"
BY_DAY = ("transactions", "features")
FOOTERS_AT_ONCE = 16  # in S3 each is a request or two
TYPES: dict[pa.DataType, IcebergType] = {
    pa.string(): StringType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    TIME: TimestamptzType(),
}


class Tables:
    """The tables of a home for a contract, as they were when opened or last committed to.

    `transactions`, `features` and `quarantine` are Iceberg tables; each raises NotFound before its first commit, and
    `features` also while those there are of another definition. Damage to what Iceberg keeps is Damaged.
    """

    def __init__(self, home: Home, contract: Contract) -> None:
        self.home, self.space = home, namespace(home)
        self.schemas = {
            "transactions": transaction_schema(contract),
            "features": features_schema(contract),
            "quarantine": quarantine_schema(),
        }
        self._catalog: Catalog | None = None
        self._tables: dict[str, Table] = {}
        self._checked: set[str] = set()
        try:
            self._catalog = open_catalog(home)
        except NotFound:
            self._refuse_lost("transactions")
            return
        for name in self.schemas:
            if table := self._load(name):
                self._tables[name] = table

    @property
    def transactions(self) -> Table:
        return self._there("transactions")

    @property
    def features(self) -> Table:
        return self._there("features")

    @property
    def quarantine(self) -> Table:
        return self._there("quarantine")

    def find(self, name: str) -> Table | None:
        """A table by its name; None before the first commit to it."""
        return self._tables.get(name)

    @property
    def features_are_current(self) -> bool:
        """Whether the features were made from the transactions as they stand (not so after a crash between both)."""
        return made_from(self.find("features")) == snapshot_id(self.find("transactions"))

    def files_by_day(self, name: str) -> dict[int, list[str]]:
        """The keys of a table's files, by day, as of the newest commit."""
        days: dict[int, list[str]] = {}
        for task in planned(self.find(name)):
            days.setdefault(int(task.file.partition[0]), []).append(key_of(self.home, task.file.file_path))
        return dict(sorted(days.items()))

    def folder(self, name: str) -> str:
        """The key of a table's folder, in which the files of a run are to be at data/<run>/."""
        table = self.find(name)
        if table is None:
            return f"warehouse/{self.space}/{name}"
        return key_of(self.home, f"{table.location()}/data/x").removesuffix("/data/x")

    def replace_days(
        self, name: str, days: Collection[int], keys: Sequence[str], *, made_from: int | None = None
    ) -> None:
        """Commit: all rows of `days` give way to those in the files `keys`, Parquet of one day each. Atomic.

        `made_from` notes the transactions' snapshot that the rows were computed from. Raises Conflict when someone
        else has committed since the table was opened; nothing is changed then. After any other error the catalog
        alone tells whether it was committed.
        """
        with self._committing(name) as change:
            if present := sorted(set(days) & set(self.files_by_day(name))):
                change.delete(_within(present))
            if keys:
                change.add_files([location_of(self.home, key) for key in keys])
            if made_from is not None:
                change.set_properties({MADE_FROM: str(made_from)})

    def append(self, name: str, key: str) -> None:
        """Commit the rows of one more file. Raises as `replace_days` does."""
        with self._committing(name) as change:
            change.add_files([location_of(self.home, key)])

    def read(self, name: str, days: Collection[int] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some days (None: all), or some of their columns, as of the newest commit.

        Iceberg's own scan verifies no checksum; this does. Raises Damaged.
        """
        schema, parts = self.schemas[name], []
        loose = pa.schema([schema.field(column).with_nullable(True) for column in columns or schema.names])
        for task in planned(self.find(name)):
            if days is None or int(task.file.partition[0]) in days:
                key = key_of(self.home, task.file.file_path)
                where = self.home.url_of(key)
                try:
                    with reading(where), self.home.local_file(key) as path, pq.ParquetFile(path, **READ) as file:
                        check_footer(file, schema, task.file.record_count)
                        parts.append(file.read(columns=loose.names).select(loose.names).cast(loose))
                except NotFound:
                    raise Damaged(f"{where} is gone; {REPAIR}") from None
        return pa.concat_tables(parts) if parts else loose.empty_table()

    def check_footers(self, name: str, keys: Collection[str]) -> None:
        """Check the footers of those of the files that were committed, which no checksum covers. Raises Damaged.

        For who reads a file otherwise than by `read`. Each is checked once.
        """

        def check(task: FileScanTask) -> None:
            assert table is not None
            where = self.home.url_of(key_of(self.home, task.file.file_path))
            with reading(where), table.io.new_input(task.file.file_path).open() as stream:
                check_footer(pq.ParquetFile(stream), self.schemas[name], task.file.record_count)

        wanted, table = set(keys) - self._checked, self.find(name)
        tasks = [task for task in planned(table) if key_of(self.home, task.file.file_path) in wanted] if wanted else []
        with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
            list(pool.map(check, tasks))
        self._checked |= wanted

    def rows_read_back(self, name: str, days: Collection[int]) -> int:
        """How many rows the files of some days hold, read from the files that the catalog names by now."""
        table = self._load(name)
        tasks = [task for task in planned(table) if int(task.file.partition[0]) in days]
        count = 0
        for task in tasks:
            assert table is not None
            with reading(task.file.file_path), table.io.new_input(task.file.file_path).open() as file:
                count += pq.read_metadata(file).num_rows
        return count

    @contextmanager
    def _committing(self, name: str) -> Iterator[Transaction]:
        try:
            with answering(self.home):
                table = self.find(name) or self._make(name)
            # Iceberg would commit an append anew on top of whatever came first; what a run writes is made from the
            # very snapshot that it has read.
            once = {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}
            table.metadata = table.metadata.model_copy(update={"properties": once})
            with answering(self.home), table.transaction() as change:
                yield change
        except (CommitFailedException, ValidationException, TableAlreadyExistsError) as error:
            raise Conflict(f"another run changed the table {name} meanwhile: {error}") from error

    def _make(self, name: str) -> Table:
        """Make a table. Features of another definition are set aside, whole. Raises Conflict if it is there by now."""
        catalog, identifier = make_catalog(self.home), (self.space, name)
        self._catalog = catalog
        if catalog.table_exists(identifier):
            if self._load(name) is not None:
                raise Conflict(f"another run made the table {name} meanwhile")
            catalog.rename_table(identifier, (self.space, f"{name}_until_{datetime.now(UTC):%Y%m%dt%H%M%S}"))
        fields = [NestedField(i, f.name, TYPES[f.type]) for i, f in enumerate(self.schemas[name], 1)]
        by_day = PartitionField(2, 1000, DayTransform(), "day")  # of the second column, event_time
        self._tables[name] = catalog.create_table(
            identifier,
            Schema(*fields),  # every column is optional, as Spark writes them
            location=location_of(self.home, f"warehouse/{self.space}/{name}"),
            partition_spec=PartitionSpec(by_day) if name in BY_DAY else PartitionSpec(),
        )
        return self._tables[name]

    def _there(self, name: str) -> Table:
        table = self.find(name)
        if table is None:
            raise NotFound(f"the home {self.home.url} has no {name} yet; `fraudline run` makes them")
        return table

    def _load(self, name: str) -> Table | None:
        """A table as it is in the catalog; None if it is not there, or of other columns and features or empty."""
        assert self._catalog is not None
        try:
            with reading(f"the table {name} of the home {self.home.url}"):
                table = self._catalog.load_table((self.space, name))
        except NoSuchTableError:
            self._refuse_lost(name)
            return None
        key_of(self.home, table.metadata_location)
        if getattr(table.metadata, "last_sequence_number", 0) and not table.current_snapshot():
            raise Damaged(f"{table.metadata_location} has lost which snapshot the table {name} stands at; {REPAIR}")
        found, expected = [field.name for field in table.schema().fields], self.schemas[name].names
        if found == expected:
            return table
        if name != "features" and table.current_snapshot():  # an empty one is of a run that did not commit
            raise BadInput(
                f"the table {name} of the home {self.home.url} has the columns {', '.join(found)}; the contract needs "
                f"{', '.join(expected)}. Use the contract that the home was made with, or another home"
            )
        return None

    def _refuse_lost(self, name: str) -> None:
        """Raise Damaged for a table that has snapshots in the home and is in no catalog, not even set aside."""
        folders = (
            f"warehouse/{self.space}/{name}/metadata/",
            f"warehouse/{name}/metadata/",
        )  # the second is Glue's own
        if not any("/snap-" in entry.key for folder in folders for entry in self.home.entries(folder)):
            return
        listed = self._catalog.list_tables(self.space) if self._catalog else []
        if not any(identifier[-1].startswith(f"{name}_") for identifier in listed):
            raise Damaged(
                f"the catalog of the home {self.home.url} does not know the table {name}, of which files are there; "
                f"{REPAIR}"
            )


def open_tables(home: Home, contract: Contract) -> Tables:
    """The tables of a home. Raises Damaged for what cannot be read, and for a home whose catalog is lost."""
    return Tables(home, contract)


def snapshot_id(table: Table | None) -> int | None:
    """The id of the snapshot a table stands at; None while it is empty."""
    snapshot = table.current_snapshot() if table else None
    return snapshot.snapshot_id if snapshot else None


def made_from(table: Table | None) -> int | None:
    """The transactions' snapshot that a features table was last made from."""
    found = table.properties.get(MADE_FROM) if table else None
    return int(found) if found else None


def row_counts(table: Table | None, *, labelled: bool = False) -> dict[int, int]:
    """How many rows there are (or only those with a label), by day, from the table's metadata alone."""
    if table is None:
        return {}
    label = table.schema().find_field("is_fraud").field_id
    days: dict[int, int] = {}
    for task in planned(table):
        day, unlabelled = int(task.file.partition[0]), (task.file.null_value_counts or {}).get(label, 0)
        days[day] = days.get(day, 0) + task.file.record_count - (unlabelled if labelled else 0)
    return dict(sorted(days.items()))


def planned(table: Table | None) -> list[FileScanTask]:
    """The data files of the newest snapshot, each as a task. Raises Damaged."""
    if table is None:
        return []
    with reading(f"the table {table.name()[-1]}, {table.metadata_location}"):
        return list(table.scan().plan_files())


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Damage met in the `with` block is Damaged, whatever the library calls it: a flipped byte has many names."""
    try:
        yield
    except (FraudlineError, NoSuchTableError):
        raise
    except FileNotFoundError as error:
        raise Damaged(f"{what} has lost a file: {error}; {REPAIR}") from error
    except Exception as error:
        if type(error).__module__.startswith("botocore"):
            check = "that the role may read the catalog and the files of the tables"
            raise FraudlineError(refusal(error, "the read", what, check)) from error
        raise Damaged(f"{what} cannot be read: {type(error).__name__}: {first_line(error)}; {REPAIR}") from error


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
