"""Bringing the online store up to date with the tables: hour buckets up to the end of the data."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from processing.contract import AHEAD, Contract
from processing.features.windows import HOUR_US
from processing.storage.spark_files import local_parquet_files
from processing.store.interface import Bucket, Event, OnlineStore, Reports
from processing.store.recorded import compare
from processing.tables.parquet import READ

FEW_ROWS, FEW_IN = 100, 1_000  # so many rows, or one in so many, may have a wrong clock and move no horizon
DAY_HOURS = 24
SPARE_HOURS = 2 * int(AHEAD.total_seconds()) // 3600  # by which the horizon may go back with no decision forgotten


def settled_up_to(rows: Mapping[int, int], lookback: int, now: int) -> int:
    """The newest of some hours (or days), not after `now`, from which on more than a few rows lie.

    `rows` says how many there are in each; few are measured by how many there are in the newest `lookback` of them. So
    a few rows whose clock is wrong do not say how far the data reaches.
    """
    recent = sum(count for place, count in rows.items() if place >= max(rows) - lookback)
    few, later = max(FEW_ROWS, recent // FEW_IN), 0
    for place in sorted(rows, reverse=True):
        later += rows[place]
        if later > few:
            return min(place, now)
    return min(*rows, now)


def first_day(rows: Mapping[int, int], contract: Contract, now: datetime) -> int:
    """The first day whose transactions a refresh needs; `rows` are their counts by day."""
    days = -(-contract.lookback_hours // DAY_HOURS)
    return settled_up_to(rows, days, int(now.timestamp()) // 86_400) - days - 1


def refresh_store(
    store: OnlineStore,
    transactions: DataFrame,
    contract: Contract,
    reports: Reports,
    scratch: Path | str,
    *,
    everything: DataFrame | None = None,
    now: datetime | None = None,
) -> int:
    """Set the store's buckets from `transactions` (those from `first_day` on); returns how many were set.

    What was decided and the data lacks is counted with them; `everything` are all transactions, also older ones whose
    ids may have been decided. The last hours may not be over, or lie ahead: their events are handed over one by one.
    """
    rows = transactions.withColumn("hour", _hour(F.unix_micros("event_time")))
    now_hour = int((now or datetime.now(UTC)).timestamp()) // 3600
    labelled_us = F.max(F.when(F.col("is_fraud").isNotNull(), F.unix_micros("event_time")))
    hours = rows.groupBy("hour").agg(F.count("*").alias("rows"), labelled_us.alias("labelled_us")).collect()
    found = {row["hour"]: row["rows"] for row in hours}
    labelled = max((row["labelled_us"] for row in hours if row["labelled_us"] is not None), default=None)
    if labelled is None and everything is not None:
        (labelled,) = everything.agg(labelled_us).first() or (None,)
    horizon = settled_up_to(found, contract.lookback_hours, now_hour)
    since_us = (horizon - contract.lookback_hours - SPARE_HOURS) * HOUR_US
    compared = compare(
        store.recorded(since_us), reports, transactions if everything is None else everything, contract, scratch
    )
    keys = [entity.name for entity in contract.entities]
    us = F.unix_micros("event_time").alias("us")
    data = rows.select("transaction_id", us, "hour", "amount_minor", "is_fraud", *keys)
    counted = (
        data if compared.lacking is None else data.unionByName(compared.lacking.withColumn("hour", _hour(F.col("us"))))
    )
    amount, fraud = F.col("amount_minor"), F.coalesce("is_fraud", F.lit(0)).cast("long")
    whole = counted.where(F.col("hour").between(horizon - contract.lookback_hours, horizon - 1))
    written: list[str] = []
    for place, entity in enumerate(contract.entities):
        path = f"{scratch}/buckets-{place}"
        whole.groupBy(F.lit(place).alias("entity"), F.col(entity.name).alias("key"), "hour").agg(
            F.count("*").alias("n"),
            F.sum(amount).alias("s"),
            F.sum(amount * amount).alias("q"),
            F.sum(fraud).alias("f"),
            F.sum(fraud * amount).alias("g"),
        ).write.parquet(path, mode="overwrite")
        written.append(path)
    tail = _events(data.where(F.col("hour") >= horizon), keys)
    frauds = _events(counted.where("is_fraud = 1"), keys)
    count = 0

    def batches() -> Iterator[list[Bucket]]:
        nonlocal count
        for address in written:
            with local_parquet_files(address) as paths:
                for path in paths:
                    for piece in pq.ParquetFile(path, **READ).iter_batches(20_000):
                        columns = [piece.column(name).to_pylist() for name in Bucket._fields]
                        count += len(piece)
                        yield [Bucket(*values) for values in zip(*columns, strict=True)]

    store.refresh(horizon, batches(), tail, reports.mark, frauds, compared.comparison, labelled or 0)
    return count


def _hour(us: Column) -> Column:
    return F.floor(us / HOUR_US).cast("long")


def _events(rows: DataFrame, keys: list[str]) -> list[Event]:
    return [
        Event(row["transaction_id"], row["us"], row["amount_minor"], tuple(row[key] for key in keys))
        for row in rows.collect()
    ]
