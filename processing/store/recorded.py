"""Comparing what was decided with what the tables hold: which decisions the data lacks, which it has otherwise."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from processing.contract import Contract
from processing.storage.spark_files import move_to
from processing.store.interface import Comparison, Recorded, Recordings, Reports


@dataclass(frozen=True)
class Compared:
    """`lacking` are the decided transactions that the data lacks: transaction_id, us (of 1970), amount_minor, is_fraud
    (as reported) and the entities; None if there are none."""

    comparison: Comparison
    lacking: DataFrame | None


def compare(
    recordings: Recordings, reports: Reports, everything: DataFrame, contract: Contract, scratch: Path | str
) -> Compared:
    """Compare decided transactions with all of the tables. `scratch` is an address for files of the run."""
    keys = [entity.name for entity in contract.entities]
    address = f"{scratch}/recorded.parquet"
    if not _write(recordings, reports, keys, address):
        return Compared(Comparison(recordings.read, recordings.read + 1), None)
    recorded = everything.sparkSession.read.parquet(str(address))
    content = ["us", "amount_minor", *keys]
    data = everything.withColumn("us", F.unix_micros("event_time")).select("transaction_id", *content)
    data = data.select("transaction_id", F.struct(*content).alias("of_data"))
    target = f"{scratch}/compared.parquet"
    recorded.join(data, "transaction_id", "left").withColumn("lacks", F.col("of_data").isNull()).where(
        F.col("lacks") | (F.col("of_data") != F.struct(*content))
    ).drop("of_data").write.parquet(str(target), mode="overwrite")
    compared = everything.sparkSession.read.parquet(str(target))
    displaced = [row["transaction_id"] for row in compared.where("NOT lacks").select("transaction_id").collect()]
    lacking = compared.where("lacks").drop("lacks")
    first = lacking.agg(F.min("number")).first()
    pending = first[0] if first and first[0] is not None else recordings.read + 1
    return Compared(Comparison(recordings.read, pending, frozenset(displaced)), lacking.drop("number"))


def _write(recordings: Recordings, reports: Reports, keys: Sequence[str], address: str) -> bool:
    """Put the recordings into a Parquet file at `address`; False, and no file, if there are none."""
    schema = pa.schema(
        [
            ("number", pa.int64()),
            ("transaction_id", pa.string()),
            ("us", pa.int64()),
            ("amount_minor", pa.int64()),
            ("is_fraud", pa.int32()),
            *((key, pa.string()) for key in keys),
        ]
    )
    with tempfile.TemporaryDirectory(prefix="fraudline-") as folder:
        path, rows = Path(folder, "recorded.parquet"), 0
        with pq.ParquetWriter(path, schema) as writer:
            for batch in recordings.batches:
                if batch:
                    writer.write_table(_table(batch, reports, schema))
                    rows += len(batch)
        if rows:
            move_to(path, address)
    return bool(rows)


def _table(batch: Sequence[Recorded], reports: Reports, schema: pa.Schema) -> pa.Table:
    labels = [reports.newest.get(one.event.transaction_id) for one in batch]
    columns = [
        [one.number for one in batch],
        [one.event.transaction_id for one in batch],
        [one.event.time_us for one in batch],
        [one.event.amount for one in batch],
        [None if label is None else int(label.is_fraud) for label in labels],
        *([one.event.keys[place] for one in batch] for place in range(len(schema) - 5)),
    ]
    return pa.table(columns, schema=schema)
