"""Taking data in, in Spark: which landed rows are new, which bring a label, which are refused."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from processing.contract import Contract
from processing.errors import BadInput, RunFailed
from processing.features.windows import DAY_US
from processing.intake.files import read_file
from processing.intake.incoming import ClaimedFile
from processing.intake.precedence import FilePrecedence
from processing.storage.scratch import scratch_folder
from processing.storage.spark_files import as_spark_path, local_copy, move_to
from processing.store.refresh_data import Report
from processing.tables.parquet import WRITE
from processing.tables.schemas import intake_schema, transaction_schema
from processing.tracebacks import error_summary

FILE_READ = "rows long, refused long, failure string, accepted_file string, refused_file string"
CLASH = "the id stands for another transaction already"
ORIGIN = ("file", "line", "reason", "content")  # of a refused row


@dataclass(frozen=True)
class Taken:
    """What a run takes in. `changes` has the columns of a transaction and `new`: a row to insert, or a label to set.

    `new` counts the rows to insert by day; `labelled` the rows with a label that are new or had none, likewise.
    """

    changes: DataFrame
    refused: DataFrame
    accepted_rows: int
    refused_rows: int
    new: Mapping[int, int]
    labelled: Mapping[int, int]
    label_days: frozenset[int]
    reports_set_aside: int = 0  # labels reported for other transactions than those of their ids

    @property
    def new_rows(self) -> int:
        return sum(self.new.values())

    @property
    def new_days(self) -> frozenset[int]:
        return frozenset(self.new)


def day_of(time: Column) -> Column:
    """The day number of a time, from 1970-01-01."""
    return F.floor(F.unix_micros(time) / DAY_US).cast("int")


def read_table(spark: SparkSession, files: Iterable[str], schema: pa.Schema) -> DataFrame:
    """The rows of the Parquet files at these paths."""
    reader = spark.read.schema(from_arrow_schema(schema)).option("recursiveFileLookup", "true")
    paths = [as_spark_path(path) for path in files]
    return reader.parquet(*paths) if paths else spark.createDataFrame([], from_arrow_schema(schema))


@dataclass(frozen=True)
class Landed:
    """What the files held: rows read and refused, and where both were set down, in `intake_schema`."""

    rows: int
    refused: int
    accepted_files: tuple[str, ...]
    refused_files: tuple[str, ...]


def land(spark: SparkSession, arrivals: Sequence[tuple[ClaimedFile, str]], contract: Contract, folder: str) -> Landed:
    """Read the arrived files, one task each, and set their rows down as Parquet in `folder`. Both are paths."""
    now = datetime.now(UTC)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                good, bad = (_Writer(f"{folder}/{kind}-{row['number']}.parquet") for kind in ("accepted", "refused"))
                failure = ""
                try:
                    with local_copy(row["path"]) as path:
                        for landed in read_file(path, contract, row["name"], now):
                            sound = pc.is_null(landed.column("reason"))
                            good.write(landed.filter(sound))
                            bad.write(landed.filter(pc.invert(sound)))
                except Exception as error:  # noqa: BLE001 (its text may hold rows; Spark would write it into the log)
                    failure = error_summary(error)
                counts = {"rows": good.close() + bad.close(), "refused": bad.rows, "failure": failure}
                yield pa.RecordBatch.from_pylist([counts | {"accepted_file": good.path, "refused_file": bad.path}])

    if not arrivals:
        return Landed(0, 0, (), ())
    files = [(number, path, arrival.name) for number, (arrival, path) in enumerate(arrivals)]
    tasks = spark.createDataFrame(files, "number int, path string, name string").repartition(len(files))
    found = tasks.mapInArrow(read, FILE_READ).collect()
    for row in found:
        if row["failure"]:
            number = int(row["accepted_file"].rpartition("-")[2].removesuffix(".parquet"))
            raise RunFailed(f"reading {files[number][2]} failed: {row['failure']}; nothing was committed")
    return Landed(
        sum(row["rows"] for row in found),
        sum(row["refused"] for row in found),
        tuple(row["accepted_file"] for row in found if row["rows"] > row["refused"]),
        tuple(row["refused_file"] for row in found if row["refused"]),
    )


class _Writer:
    """Batches into one Parquet file, which is made with the first row."""

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


def take(
    spark: SparkSession,
    landed: Landed,
    files: Sequence[FilePrecedence],
    existing: DataFrame | None,
    reported: Mapping[str, Report],
    contract: Contract,
) -> Taken:
    """Compare what landed with what is there.

    The first row of an id stands; another content under the same id is refused. The label that arrived last stands,
    and one reported to the API stands over those from files, if it is of the transaction that was decided. A file that
    was taken in before labels nothing anew, and only a file that arrived after all of those may undo a 1. Raises
    BadInput for a file that is truncated, or when a greater share of rows than the contract allows is refused, and
    RunFailed if not all rows that were read are there.
    """
    if not landed.rows and not reported:
        nothing = spark.createDataFrame([], from_arrow_schema(transaction_schema(contract)))
        return Taken(nothing, nothing, 0, 0, {}, {}, frozenset())
    names = transaction_schema(contract).names
    good = read_table(spark, landed.accepted_files, intake_schema(contract)).withColumn("known", F.lit(False))
    if (there := good.count()) != landed.rows - landed.refused:
        raise RunFailed(
            f"{landed.rows - landed.refused:,} rows were accepted and {there:,} of them can be read again; nothing was "
            "committed. Is the temporary folder full, or was it cleared?"
        )
    told = _told(spark, reported, contract)
    ids = good.select("transaction_id").unionAll(told.select("id"))
    if existing is not None:
        ids = ids.unionAll(existing.select("transaction_id"))
        before = existing.select("*", F.lit("").alias("file"), F.lit(0).cast("long").alias("line"))
        rows = good.unionByName(before.withColumn("known", F.lit(True)), allowMissingColumns=True)
    else:
        rows = good
    refused = read_table(spark, landed.refused_files, intake_schema(contract)).select(*ORIGIN)
    total, bad = landed.rows, landed.refused
    contested = ids.groupBy("transaction_id").count().where("count > 1").select("transaction_id").persist()
    gains = F.col("is_fraud").isNotNull().alias("gains")
    changes, set_aside = good.select(*names, F.lit(True).alias("new"), gains), 0
    if contested.count():
        several = rows.join(contested, "transaction_id", "left_semi")
        judged = _judge(several, told, names, files, contract).persist()
        set_aside = judged.where("set_aside").count()
        plain = changes.join(contested, "transaction_id", "left_anti").select(*changes.columns)
        changes = judged.where("changed").select(*names, (~F.col("known")).alias("new"), "gains").unionAll(plain)
        twice = judged.where("clash").select(*ORIGIN[:2], F.lit(CLASH).alias("reason"), F.to_json(F.struct(*names)))
        refused, bad = refused.unionAll(twice), bad + twice.count()
    changes = changes.withColumn("day", day_of(F.col("event_time")))
    _check(total, bad, refused, contract)
    days = changes.groupBy("day", "new").agg(F.count("*").alias("rows"), F.count_if("gains").alias("gains")).collect()
    labelled: Counter[int] = Counter()
    for row in days:
        labelled[row["day"]] += row["gains"]
    return Taken(
        changes=changes,
        refused=refused,
        accepted_rows=total - bad,
        refused_rows=bad,
        new={row["day"]: row["rows"] for row in days if row["new"]},
        labelled=labelled,
        label_days=frozenset(row["day"] for row in days if not row["new"]),
        reports_set_aside=set_aside,
    )


def _told(spark: SparkSession, reported: Mapping[str, Report], contract: Contract) -> DataFrame:
    """What was reported: id, told (the label), and decided (the transaction's content)."""
    keys = "".join(f", `{entity.name}`: string" for entity in contract.entities)
    schema = f"id string, told int, decided struct<us: long, amount_minor: long{keys}>"
    rows = [(key, int(label), (event.time_us, event.amount, *event.keys)) for key, (event, label) in reported.items()]
    return spark.createDataFrame(rows, schema)


def _judge(
    rows: DataFrame, told: DataFrame, names: list[str], files: Sequence[FilePrecedence], contract: Contract
) -> DataFrame:
    """The rows whose id occurs more than once: which is `changed` (inserted, or labelled anew), which a `clash`, and
    for which a report is `set_aside`, because another transaction was decided under its id."""
    spark = rows.sparkSession
    placed = [(file.name, (file.order, file.repeated, file.late)) for file in files]
    # A name with a blank is no column of any contract.
    of_file = spark.createDataFrame(
        placed, "file string, `of file` struct<order: int, repeated: boolean, late: boolean>"
    )
    order, repeated, late = (F.col(f"`of file`.{name}") for name in ("order", "repeated", "late"))
    known, fraud, same = F.col("known"), F.col("is_fraud"), F.col("same")
    in_order = Window.partitionBy("transaction_id").orderBy(known.desc(), order, "line")
    everything = in_order.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    first, stands = F.col("place") == 1, F.max(F.when(known, F.coalesce(fraud, F.lit(-1)))).over(everything)
    undone = (stands == 1) & (fraud == 0) & ~late  # by an export that may be older than the 1
    counts = same & (known | stands.isNull() | ~(repeated | undone))
    decided = F.struct(
        F.unix_micros("event_time").alias("us"), "amount_minor", *(entity.name for entity in contract.entities)
    )
    reported = F.when(decided == F.col("decided"), F.col("told"))
    label = F.coalesce(reported, F.last(F.when(counts, fraud), ignorenulls=True).over(everything))
    judged = (
        rows.join(F.broadcast(told), F.col("transaction_id") == F.col("id"), "left")
        .join(F.broadcast(of_file), "file", "left")
        .withColumn("content", F.struct(*[name for name in names if name != "is_fraud"]))
        .withColumn("same", F.col("content") == F.first("content").over(everything))
        .withColumn("place", F.row_number().over(in_order))
        .withColumn("label", label)
        .withColumn("gains", F.col("label").isNotNull() & (~known | fraud.isNull()))
        .withColumn("changed", first & (~known | ~F.col("label").eqNullSafe(fraud)))
        .withColumn("clash", ~same & ~known)
        .withColumn("set_aside", first & F.col("told").isNotNull() & reported.isNull())
    )
    return judged.where("changed OR clash OR set_aside").withColumn("is_fraud", F.when(first, F.col("label")))


def _check(total: int, bad: int, refused: DataFrame, contract: Contract) -> None:
    if not bad:
        return
    broken = refused.where("reason LIKE 'unreadable%'").first()
    if broken:
        raise BadInput(
            f"{broken['file']} is truncated or damaged at line {broken['line']} ({broken['reason']}); nothing was "
            "committed. Replace the file in incoming/, or take it out, and run again"
        )
    if bad > contract.refuse_above * total:
        examples = "; ".join(f"{row['file']} line {row['line']}: {row['reason']}" for row in refused.limit(3).collect())
        raise BadInput(
            f"{bad:,} of {total:,} rows break the contract {contract.name!r}, more than the "
            f"{contract.refuse_above:.0%} it allows (refuse_above); nothing was committed. For instance: {examples}"
        )


def rewritten(existing: DataFrame | None, taken: Taken, contract: Contract) -> DataFrame:
    """The whole rows of the days that change: those that were there, with their new labels, and the new ones."""
    names = transaction_schema(contract).names
    new = taken.changes.where("new").select(*names, "day")
    if existing is None:
        return new
    labels = taken.changes.where("NOT new").select("transaction_id", F.col("is_fraud").alias("label"))
    kept = existing.join(labels, "transaction_id", "left").withColumn("is_fraud", F.coalesce("label", "is_fraud"))
    return kept.select(*names, day_of(F.col("event_time")).alias("day")).unionByName(new)
