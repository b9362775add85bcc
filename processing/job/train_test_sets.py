"""A run's train and test sets, written into its folder."""

import time

from processing.job.earlier_features import earlier_contracts, folder_of
from processing.job.spark_tables import SparkTables
from processing.job.step_log import say
from processing.split import DaySplit, date_of, split_days
from processing.storage.home import Home
from processing.tables.snapshots import row_counts


def write_sets(home: Home, run: str, spark_tables: SparkTables) -> tuple[DaySplit, dict[str, int]]:
    """Copy the files of the train and test days to runs/<run>/; the days, and how many labelled rows each set has."""
    tables = spark_tables.tables
    files, table = tables.files_by_day("features"), tables.find("features")
    labelled = row_counts(table, labelled=True)
    split = split_days(labelled, row_counts(table), spark_tables.contract)
    if split.unsettled:
        newest, end = date_of(split.unsettled[-1]), date_of(split.test[-1])
        say(f"too few rows after {end} have a label to test on them yet (labels go up to {newest})")
    counts = {}
    for name, days in (("train", split.train), ("test", split.test)):
        for day in days:
            for i, key in enumerate(files.get(day, [])):
                home.copy(key, f"runs/{run}/{name}/{date_of(day)}-{i}.parquet")
        counts[name] = sum(labelled.get(day, 0) for day in days)
    say(f"sets written: {counts['train']:,} rows to train on, {counts['test']:,} to test on")
    return split, counts


def write_earlier_sets(home: Home, run: str, spark_tables: SparkTables, days: range) -> None:
    """Write the test rows with the features of earlier models, where those differ from the new model's."""
    contracts = earlier_contracts(home, spark_tables.contract, say)
    files = spark_tables.tables.files_by_day("transactions") if contracts else {}
    for contract in contracts:
        folder, started = folder_of(run, contract), time.monotonic()
        rows = spark_tables.features(files, days, contract)
        rows.write.parquet(spark_tables.files.write_path(folder), mode="overwrite")
        spark_tables.files.publish(folder)
        say(f"test rows written under an earlier contract ({folder}) in {time.monotonic() - started:.0f} s")
