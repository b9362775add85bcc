"""Reads a run's files in Spark, one task each, and writes their rows to a scratch folder."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from processing.contract import Contract
from processing.errors import RunFailed
from processing.intake.files import read_file
from processing.storage.scratch import scratch_folder
from processing.storage.spark_files import local_copy, move_to
from processing.tables.parquet import WRITE
from processing.tracebacks import error_summary

RESULT = "rows long, refused long, failure string, accepted_file string, refused_file string"


class InputFile(NamedTuple):
    """A file to read: its name below incoming/, and the path by which a task opens it."""

    name: str
    path: str


@dataclass(frozen=True)
class ReadRows:
    """The rows of the files: how many were read and refused, and the Parquet files of both, in `intake_schema`."""

    rows: int
    refused: int
    accepted_files: tuple[str, ...]
    refused_files: tuple[str, ...]


def read_files(
    spark: SparkSession,
    files: Sequence[InputFile],
    contract: Contract,
    folder: str,
    optional: Collection[str] = (),
) -> ReadRows:
    """Read the files and write their rows as Parquet into `folder`, a path that tasks can write to.

    `optional` columns that a file lacks are null. Raises RunFailed, naming the file, if a task fails.
    """
    now = datetime.now(UTC)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            for task in batch.to_pylist():
                accepted, refused = (
                    _Writer(f"{folder}/{kind}-{task['number']}.parquet") for kind in ("accepted", "refused")
                )
                failure = ""
                try:
                    with local_copy(task["path"]) as path:
                        for rows in read_file(path, contract, task["name"], now, optional=optional):
                            is_accepted = pc.is_null(rows.column("reason"))
                            accepted.write(rows.filter(is_accepted))
                            refused.write(rows.filter(pc.invert(is_accepted)))
                except Exception as error:  # noqa: BLE001 (its text may hold rows, and Spark would log it)
                    failure = error_summary(error)
                counts = {"rows": accepted.close() + refused.close(), "refused": refused.rows, "failure": failure}
                paths = {"accepted_file": accepted.path, "refused_file": refused.path}
                yield pa.RecordBatch.from_pylist([counts | paths])

    if not files:
        return ReadRows(0, 0, (), ())
    tasks = [(number, file.path, file.name) for number, file in enumerate(files)]
    frame = spark.createDataFrame(tasks, "number int, path string, name string").repartition(len(tasks))
    results = frame.mapInArrow(read, RESULT).collect()
    for result in results:
        if result["failure"]:
            number = int(result["accepted_file"].rpartition("-")[2].removesuffix(".parquet"))
            raise RunFailed(f"reading {files[number].name} failed: {result['failure']}; nothing was committed")
    return ReadRows(
        sum(result["rows"] for result in results),
        sum(result["refused"] for result in results),
        tuple(result["accepted_file"] for result in results if result["rows"] > result["refused"]),
        tuple(result["refused_file"] for result in results if result["refused"]),
    )


class _Writer:
    """Writes batches into one Parquet file, which is created with the first row."""

    def __init__(self, path: str) -> None:
        self.path, self.rows = path, 0
        self._scratch = ExitStack()
        self._file: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if len(batch):
            if self._file is None:
                self._local = self._scratch.enter_context(scratch_folder("rows")) / "rows.parquet"
                self._file = pq.ParquetWriter(self._local, batch.schema, **WRITE)
            self._file.write_batch(batch)
            self.rows += len(batch)

    def close(self) -> int:
        if self._file is not None:
            self._file.close()
            move_to(self._local, self.path)
            self._scratch.close()
        return self.rows
