"""The refresh of the online store from the tables."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame

from processing.contract import Contract
from processing.durations import HOUR_US
from processing.job.spark import start_spark
from processing.job.spark_tables import SparkTables
from processing.job.step_log import say
from processing.storage.home import Home
from processing.storage.spark_files import open_spark_files
from processing.store.horizon import first_day
from processing.store.interface import OnlineStore
from processing.store.open import open_store
from processing.store.refresh import Source, refresh_store
from processing.store.refresh_data import Reports
from processing.tables.commit import Files, keys_of
from processing.tables.snapshots import snapshot_id
from processing.tables.tables import Tables, open_tables


def refresh(store: OnlineStore, reports: Reports, spark_tables: SparkTables, *, whole: bool = False) -> int:
    """Settle the store's profiles with the tables' transactions, `whole` or those that can differ; how many were set.

    They reach back as far as the windows of the contract, and of models of earlier contracts.
    """
    tables = spark_tables.tables
    files = tables.files_by_day("transactions")
    lookback = -(-store.plan.longest_us // HOUR_US)
    first = first_day(spark_tables.row_counts(), lookback, datetime.now(UTC))
    rows = spark_tables.transactions({day: names for day, names in files.items() if day >= first})
    everything = spark_tables.transactions(files)
    assert rows is not None
    assert everything is not None

    def changed_since(snapshot: str) -> DataFrame | None:
        changed = None if whole else _changed_files(tables, int(snapshot), files)
        if changed is None:
            return None
        return spark_tables.transactions(changed) if changed else rows.limit(0)

    source = Source(rows, everything, str(snapshot_id(tables.find("transactions"))), changed_since)
    count = refresh_store(store, source, reports, spark_tables.files.scratch)
    say(f"online store refreshed: {count:,} profiles")
    return count


def _changed_files(tables: Tables, before: int, now: Files) -> Files | None:
    """The files that the transactions table has or had, but not both, now and in an earlier snapshot.

    None if that snapshot or one of its files is not there any more.
    """
    if not tables.has_snapshot("transactions", before):
        return None
    then = tables.files_by_day("transactions", before)
    changed = {day: sorted({*then.get(day, ())} ^ {*now.get(day, ())}) for day in {*then, *now}}
    keys = keys_of(changed)
    folders = {key.rpartition("/")[0] for key in keys}
    there = {entry.key for folder in folders for entry in tables.home.entries(folder)}
    return {day: names for day, names in changed.items() if names} if there.issuperset(keys) else None


def refresh_only(home: Home, contract: Contract, scratch: Path, held: ExitStack) -> int:
    """Refresh the online store from the tables as they are, without a run; how many profiles were set."""
    tables = open_tables(home, contract)
    if not tables.find("transactions"):
        return 0
    store = open_store(home, contract)
    held.callback(store.close)
    spark = start_spark(scratch)
    files = open_spark_files(home, "refresh", scratch, spark)
    held.callback(files.close)
    return refresh(store, store.reports(), SparkTables(contract, spark, tables, files), whole=True)
