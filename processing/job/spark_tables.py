"""A home's tables as Spark reads and writes them."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from processing.contract import Contract
from processing.job.features import compute_features
from processing.job.spark import tasks_for
from processing.job.step_log import say
from processing.storage.spark_files import SparkFiles, read_parquet
from processing.tables.commit import Files, keys_of
from processing.tables.schemas import transaction_schema
from processing.tables.snapshots import row_counts
from processing.tables.tables import Tables, open_tables


@dataclass
class SparkTables:
    """The tables of a home in a Spark session.

    more_rows: how many rows the run adds, to choose the number of tasks
    """

    contract: Contract
    spark: SparkSession
    tables: Tables
    files: SparkFiles
    more_rows: int = 0

    def reopen(self) -> None:
        """Read the tables as they are now."""
        self.tables = open_tables(self.tables.home, self.contract)

    def transactions(self, files: Files) -> DataFrame | None:
        """The rows of some files of the transactions table; None if there are no files.

        They have the columns of the contract and, behind those, columns that only earlier contracts had. Files from
        before a column was added have null there.
        """
        if not files:
            return None
        self.tables.check_footers("transactions", keys_of(files))
        paths = self.files.read_paths(keys_of(files))
        return read_parquet(self.spark, paths, self.tables.stored_schema("transactions"))

    def all_transactions(self) -> DataFrame | None:
        """The rows of the transactions table; None if it is empty."""
        return self.transactions(self.tables.files_by_day("transactions"))

    def row_counts(self) -> dict[int, int]:
        """How many transactions each day has."""
        return row_counts(self.tables.find("transactions"))

    def features(self, files: Files, days: Collection[int], contract: Contract) -> DataFrame:
        """The features of the transactions of `days` under a contract. `files` are those of the transactions table."""
        reach = -(-contract.lookback_hours // 24)
        needed = {day - back for day in days for back in range(reach + 1)}
        rows = self.transactions({day: names for day, names in files.items() if day in needed})
        assert rows is not None
        return compute_features(_completed(rows, contract), contract, days, self._tasks())

    def write(self, rows: DataFrame, folder: str) -> Files:
        """Write rows with a `day` into a folder of the home, one file per day and task; the files' keys."""
        started = time.monotonic()
        by_day = rows.repartition(self._tasks(), "day").write.partitionBy("day")
        by_day.parquet(self.files.write_path(folder), mode="overwrite")
        files: Files = {}
        for key in self.files.publish(folder):
            files.setdefault(int(key.rsplit("/", 2)[1].removeprefix("day=")), []).append(key)
        say(f"{folder} written in {time.monotonic() - started:.0f} s")
        return files

    def _tasks(self) -> int:
        return tasks_for(sum(self.row_counts().values()) + self.more_rows, self.spark)


def _completed(rows: DataFrame, contract: Contract) -> DataFrame:
    """Rows with the columns of a contract; null in those that they lack."""
    schema = from_arrow_schema(transaction_schema(contract))
    has = set(rows.columns)
    return rows.select(
        *(F.col(c.name) if c.name in has else F.lit(None).cast(c.dataType).alias(c.name) for c in schema.fields)
    )
