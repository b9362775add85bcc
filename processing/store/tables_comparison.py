"""Compare decided transactions with the tables: which ids the tables lack, and which have another transaction there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.storage.spark_files import move_to
from processing.store.profiles.plan import ProfilePlan
from processing.store.refresh_data import Comparison, RecordedEvent, RecordedEvents, Reports


class Compared(NamedTuple):
    """Decided transactions compared with those of the tables.

    lacking: those that the tables lack: transaction_id, us (since 1970), amount_minor, is_fraud (as reported), the key
        columns and those further columns that aggregates read; None if there are none
    different: these, and those under whose ids the tables have others: the key columns
    """

    comparison: Comparison
    lacking: DataFrame | None
    different: DataFrame | None


def compare_with_tables(
    recorded: RecordedEvents, reports: Reports, everything: DataFrame, plan: ProfilePlan, scratch: Path | str
) -> Compared:
    """Compare decided transactions with all transactions of the tables.

    `scratch` is an address for the run's files.
    """
    keys = plan.contract.key_names
    address = f"{scratch}/recorded.parquet"
    if not _write(recorded, reports, plan, address):
        return Compared(Comparison(recorded.read_up_to, recorded.read_up_to + 1), None, None)
    decided = everything.sparkSession.read.parquet(str(address))
    content = ["us", "amount_minor", *keys]
    data = everything.withColumn("us", F.unix_micros("event_time")).select("transaction_id", *content)
    data = data.select("transaction_id", F.struct(*content).alias("of_data"))
    target = f"{scratch}/compared.parquet"
    decided.join(data, "transaction_id", "left").withColumn("lacks", F.col("of_data").isNull()).where(
        F.col("lacks") | (F.col("of_data") != F.struct(*content))
    ).drop("of_data").write.parquet(str(target), mode="overwrite")
    different = everything.sparkSession.read.parquet(str(target))
    displaced = [row["transaction_id"] for row in different.where("NOT lacks").select("transaction_id").collect()]
    lacking = different.where("lacks").drop("lacks")
    first = lacking.agg(F.min("number")).first()
    pending = first[0] if first and first[0] is not None else recorded.read_up_to + 1
    comparison = Comparison(recorded.read_up_to, pending, frozenset(displaced))
    return Compared(comparison, lacking.drop("number"), different.select(*keys))


def _write(recorded: RecordedEvents, reports: Reports, plan: ProfilePlan, address: str) -> bool:
    """Write the events to a Parquet file at `address`. Returns False, and writes no file, if there are none."""
    schema = pa.schema(
        [
            ("number", pa.int64()),
            ("transaction_id", pa.string()),
            ("us", pa.int64()),
            ("amount_minor", pa.int64()),
            ("is_fraud", pa.int32()),
            *((key, pa.string()) for key in plan.contract.key_names),
            *((name, pa.float64() if plan.is_numeric(name) else pa.string()) for name in plan.event_columns),
        ]
    )
    with tempfile.TemporaryDirectory(prefix="fraudline-") as folder:
        path, rows = Path(folder, "recorded.parquet"), 0
        with pq.ParquetWriter(path, schema) as writer:
            for batch in recorded.batches:
                if batch:
                    writer.write_table(_table(batch, reports, schema))
                    rows += len(batch)
        if rows:
            move_to(path, address)
    return bool(rows)


def _table(batch: Sequence[RecordedEvent], reports: Reports, schema: pa.Schema) -> pa.Table:
    labels = [reports.newest.get(row.event.transaction_id) for row in batch]
    columns = [
        [row.number for row in batch],
        [row.event.transaction_id for row in batch],
        [row.event.time_us for row in batch],
        [row.event.amount for row in batch],
        [None if label is None else int(label.is_fraud) for label in labels],
        *([row.event.keys[number] for row in batch] for number in range(len(batch[0].event.keys))),
    ]
    columns += [[dict(row.event.extras).get(name) for row in batch] for name in schema.names[len(columns) :]]
    return pa.table(columns, schema=schema)
