"""The check of a home's tables: which files are damaged, and how each can be repaired."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from processing.contract import Contract
from processing.errors import Damaged, FraudlineError, NotFound
from processing.job import table_repair
from processing.storage.home import Home
from processing.tables.catalog import CATALOG_KEY, REPAIR
from processing.tables.data_files import columns_in
from processing.tables.definitions import BY_DAY
from processing.tables.locations import key_of
from processing.tables.parquet import fault_of, first_line
from processing.tables.snapshots import scan_tasks
from processing.tables.tables import Tables, open_tables


@dataclass(frozen=True)
class Fault:
    """What is wrong with a part of a home.

    where: the file or part; what: how it is damaged
    repair: repairs it and says what it did; None if it cannot be repaired
    """

    where: str
    what: str
    repair: Callable[[], str] | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def damaged_tables(home: Home, contract: Contract) -> Iterator[Fault]:
    """The faults of the catalog and the tables. Reads every file that the newest snapshots name."""
    rebuild_catalog = partial(table_repair.rebuild_catalog, home)
    try:
        tables = open_tables(home, contract)
    except Damaged as error:
        yield Fault(home.url_of(CATALOG_KEY), str(error), rebuild_catalog)
        return
    for name in table_repair.NAMES:
        table = tables.find(name)
        if table is None or (name == "features" and not tables.features_are_current):  # these are recomputed anyway
            continue
        try:
            tasks = scan_tasks(table)
        except Damaged as error:
            yield Fault(home.url_of(tables.folder(name)), str(error), rebuild_catalog)
            return
        for task in tasks:
            key = key_of(home, task.file.file_path)
            if what := _damage(home, key, columns_in(task, table, tables.stored_schema(name)), task.file.record_count):
                day = int(task.file.partition[0]) if name in BY_DAY else 0
                yield Fault(home.url_of(key), what, partial(table_repair.repair_table, home, contract, name, day))


def raise_if_damaged(tables: Tables, failure: Exception) -> None:
    """Raise Damaged, naming file, fault and remedy, if Spark's `failure` names a data file that is damaged.

    The file is read once more to tell.
    """
    text = f"{failure}\n{getattr(failure, '_stackTrace', '')}"  # the latter has the causes
    for name in table_repair.NAMES:
        for task in scan_tasks(tables.find(name)):
            key = key_of(tables.home, task.file.file_path)
            if key.rpartition("/")[2] not in text:
                continue
            columns = columns_in(task, tables.find(name), tables.stored_schema(name))
            if what := _damage(tables.home, key, columns, task.file.record_count):
                raise Damaged(f"{tables.home.url_of(key)} is damaged: {what}; {REPAIR}") from failure


def _damage(home: Home, key: str, schema: pa.Schema, rows: int) -> str:
    """What is wrong with a data file that should hold so many rows; "" if nothing is. Reads every page."""
    try:
        with home.local_file(key) as path:
            return fault_of(path, schema, rows)
    except NotFound:
        return "it is gone"
    except FraudlineError as error:
        return f"it cannot be read: {first_line(error)}"
