"""Bringing the online store up to date with the tables: hour buckets up to the end of the data."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.contract import Contract
from processing.online import Bucket, Event, OnlineStore
from processing.parquet import READ
from processing.staging import brought
from processing.windows import HOUR_US


def refresh_store(
    store: OnlineStore, transactions: DataFrame, contract: Contract, mark: int, scratch: Path | str
) -> int:
    """Set the store's buckets from `transactions` (their look-back is enough); returns how many were set.

    The hour of the last transaction may not be over: its events are handed over one by one.
    """
    hour = F.floor(F.unix_micros("event_time") / HOUR_US).cast("long")
    rows = transactions.withColumn("hour", hour)
    last = rows.agg(F.max("hour")).first()
    assert last is not None
    horizon = last[0]
    amount, fraud = F.col("amount_minor"), F.coalesce("is_fraud", F.lit(0)).cast("long")
    written: list[str] = []
    for place, entity in enumerate(contract.entities):
        path = f"{scratch}/buckets-{place}"
        whole = rows.where(F.col("hour").between(horizon - contract.lookback_hours, horizon - 1))
        whole.groupBy(F.lit(place).alias("entity"), F.col(entity.name).alias("key"), "hour").agg(
            F.count("*").alias("n"),
            F.sum(amount).alias("s"),
            F.sum(amount * amount).alias("q"),
            F.sum(fraud).alias("f"),
            F.sum(fraud * amount).alias("g"),
        ).write.parquet(path, mode="overwrite")
        written.append(path)
    keys = [entity.name for entity in contract.entities]
    tail = [
        Event(row["transaction_id"], row["us"], row["amount_minor"], tuple(row[key] for key in keys))
        for row in rows.where(F.col("hour") == horizon).withColumn("us", F.unix_micros("event_time")).collect()
    ]
    frauds = [row["transaction_id"] for row in rows.where("is_fraud = 1").select("transaction_id").collect()]
    count = 0

    def batches() -> Iterator[list[Bucket]]:
        nonlocal count
        for address in written:
            with brought(address) as paths:
                for path in paths:
                    for piece in pq.ParquetFile(path, **READ).iter_batches(20_000):
                        columns = [piece.column(name).to_pylist() for name in Bucket._fields]
                        count += len(piece)
                        yield [Bucket(*values) for values in zip(*columns, strict=True)]

    store.refresh(horizon, batches(), tail, mark, frauds)
    return count
