"""The refresh of the online store from the tables."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from processing.contract import Contract
from processing.contracts.model_contract import longest_lookback
from processing.job.spark import start_spark
from processing.job.spark_tables import SparkTables
from processing.job.step_log import say
from processing.storage.home import Home
from processing.storage.spark_files import open_spark_files
from processing.store.horizon import first_day
from processing.store.interface import OnlineStore
from processing.store.open import open_store
from processing.store.refresh import refresh_store
from processing.store.refresh_data import Reports
from processing.tables.tables import open_tables


def refresh(store: OnlineStore, reports: Reports, spark_tables: SparkTables) -> int:
    """Set the store's hour buckets from the tables; how many.

    They reach back as far as the windows of the contract, or of a model of an earlier contract, whichever is longer.
    """
    files = spark_tables.tables.files_by_day("transactions")
    lookback = longest_lookback(spark_tables.tables.home, spark_tables.contract)
    first = first_day(spark_tables.row_counts(), lookback, datetime.now(UTC))
    rows = spark_tables.transactions({day: names for day, names in files.items() if day >= first})
    everything = spark_tables.transactions(files)
    assert rows is not None
    assert everything is not None
    scratch = spark_tables.files.scratch
    count = refresh_store(
        store, rows, spark_tables.contract, reports, scratch, everything=everything, lookback_hours=lookback
    )
    say(f"online store refreshed: {count:,} hour buckets")
    return count


def refresh_only(home: Home, contract: Contract, scratch: Path, held: ExitStack) -> int:
    """Refresh the online store from the tables as they are, without a run; how many hour buckets were set."""
    tables = open_tables(home, contract)
    if not tables.find("transactions"):
        return 0
    store = open_store(home, contract)
    held.callback(store.close)
    spark = start_spark(scratch)
    files = open_spark_files(home, "refresh", scratch, spark)
    held.callback(files.close)
    return refresh(store, store.reports(), SparkTables(contract, spark, tables, files))
