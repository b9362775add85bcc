"""Bring the online store up to date with the tables: hour buckets up to the horizon."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.contract import CLOCK_SKEW, Contract
from processing.features.entity_keys import entity_key
from processing.features.windows import HOUR_US
from processing.storage.spark_files import local_parquet_files
from processing.store.decisions import Event
from processing.store.horizon import settled_up_to
from processing.store.interface import OnlineStore
from processing.store.refresh_data import Bucket, Reports
from processing.store.tables_comparison import compare_with_tables
from processing.tables.parquet import READ

SPARE_HOURS = 2 * int(CLOCK_SKEW.total_seconds()) // 3600  # the horizon may move back so far without losing a decision
BUCKETS_AT_ONCE = 20_000


def refresh_store(
    store: OnlineStore,
    transactions: DataFrame,
    contract: Contract,
    reports: Reports,
    scratch: Path | str,
    *,
    everything: DataFrame | None = None,
    now: datetime | None = None,
    lookback_hours: int = 0,
) -> int:
    """Set the store's buckets from `transactions`, those from `first_day` on; returns how many were set.

    Decided transactions that the tables lack are counted too. To find them, pass all transactions as `everything`,
    older ones included. The buckets reach back as far as the contract's windows, or `lookback_hours` if that is longer.
    Events of the last hours, which may not be over, are passed to the store one by one.
    """
    lookback = max(contract.lookback_hours, lookback_hours)
    rows = transactions.withColumn("hour", _hour(F.unix_micros("event_time")))
    now_hour = int((now or datetime.now(UTC)).timestamp()) // 3600
    labelled_us = F.max(F.when(F.col("is_fraud").isNotNull(), F.unix_micros("event_time")))
    hours = rows.groupBy("hour").agg(F.count("*").alias("rows"), labelled_us.alias("labelled_us")).collect()
    counts = {row["hour"]: row["rows"] for row in hours}
    labelled = max((row["labelled_us"] for row in hours if row["labelled_us"] is not None), default=None)
    if labelled is None and everything is not None:
        (labelled,) = everything.agg(labelled_us).first() or (None,)
    horizon = settled_up_to(counts, lookback, now_hour)
    since_us = (horizon - lookback - SPARE_HOURS) * HOUR_US
    comparison, lacking = compare_with_tables(
        store.recorded_events(since_us), reports, transactions if everything is None else everything, contract, scratch
    )
    keys = contract.key_names
    us = F.unix_micros("event_time").alias("us")
    data = rows.select("transaction_id", us, "hour", "amount_minor", "is_fraud", *keys)
    counted = data if lacking is None else data.unionByName(lacking.withColumn("hour", _hour(F.col("us"))))
    settled = counted.where(F.col("hour").between(horizon - lookback, horizon - 1))
    addresses = [
        _write_buckets(settled, contract.key_names_of(entity), f"{scratch}/buckets-{index}")
        for index, entity in enumerate(contract.entities)
    ]
    tail = _events(data.where(F.col("hour") >= horizon), keys)
    frauds = _events(counted.where("is_fraud = 1"), keys)
    count = 0

    def batches() -> Iterator[list[Bucket]]:
        nonlocal count
        for batch in _read_buckets(addresses):
            count += len(batch)
            yield batch

    store.refresh(horizon, batches(), tail, reports.mark, frauds, comparison, labelled or 0)
    return count


def _write_buckets(rows: DataFrame, names: Sequence[str], address: str) -> str:
    """Write the buckets of the entity with columns of these names to Parquet files; returns their address."""
    amount, fraud = F.col("amount_minor"), F.coalesce("is_fraud", F.lit(0)).cast("long")
    keys = [F.col(name).alias(f"key{number}") for number, name in enumerate(names)]
    rows.groupBy(*keys, "hour").agg(
        F.count("*").alias("n"),
        F.sum(amount).alias("s"),
        F.sum(amount * amount).alias("q"),
        F.sum(fraud).alias("f"),
        F.sum(fraud * amount).alias("g"),
    ).write.parquet(address, mode="overwrite")
    return address


def _read_buckets(addresses: Sequence[str]) -> Iterator[list[Bucket]]:
    """The buckets of all entities; the addresses are in the order of the contract."""
    for entity, address in enumerate(addresses):
        with local_parquet_files(address) as paths:
            for path in paths:
                for batch in pq.ParquetFile(path, **READ).iter_batches(BUCKETS_AT_ONCE):
                    *keys, hours, n, s, q, f, g = (column.to_pylist() for column in batch.columns)
                    names = map(entity_key, zip(*keys, strict=True))
                    sums = zip(names, hours, n, s, q, f, g, strict=True)
                    yield [Bucket(entity, *values) for values in sums]


def _hour(us: Column) -> Column:
    return F.floor(us / HOUR_US).cast("long")


def _events(rows: DataFrame, keys: Sequence[str]) -> list[Event]:
    return [
        Event(row["transaction_id"], row["us"], row["amount_minor"], tuple(row[key] for key in keys))
        for row in rows.collect()
    ]
