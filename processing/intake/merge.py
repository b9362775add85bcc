"""Merges the rows that were read with the transactions table: which are new, which bring a label, which are refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.window import WindowSpec

from processing.contract import Contract
from processing.durations import DAY_US
from processing.errors import BadInput, RunFailed
from processing.intake.precedence import FilePrecedence
from processing.intake.spark_reader import ReadRows
from processing.storage.spark_files import read_parquet
from processing.store.refresh_data import Report
from processing.tables.schemas import intake_schema, transaction_schema

CLASH = "the id stands for another transaction already"
ORIGIN = ("file", "line", "reason", "content")  # of a refused row


@dataclass(frozen=True)
class Merged:
    """What a run changes.

    changes: the columns of a transaction and `new`: true for a row to insert, false for a label to set
    new: rows to insert, by day
    labelled: rows that gain a label, new or not, by day
    label_days: the days on which labels are set
    reports_set_aside: labels reported for another transaction than the one that has the id
    """

    changes: DataFrame
    refused: DataFrame
    accepted_rows: int
    refused_rows: int
    new: Mapping[int, int]
    labelled: Mapping[int, int]
    label_days: frozenset[int]
    reports_set_aside: int = 0

    @property
    def new_rows(self) -> int:
        return sum(self.new.values())

    @property
    def new_days(self) -> frozenset[int]:
        return frozenset(self.new)

    @property
    def changed_days(self) -> frozenset[int]:
        return self.new_days | self.label_days


def day_of(time: Column) -> Column:
    """The day number of a time, from 1970-01-01."""
    return F.floor(F.unix_micros(time) / DAY_US).cast("int")


def merge(
    spark: SparkSession,
    read: ReadRows,
    files: Sequence[FilePrecedence],
    existing: DataFrame | None,
    reported: Mapping[str, Report],
    contract: Contract,
) -> Merged:
    """Compare the rows that were read with the existing ones.

    The first row of an id stays; other content under the same id is refused. The label from the newest file counts, and
    a label reported to the API counts over those from files, if it is for the transaction that was decided. A file that
    was read before changes no label, and only a file newer than all of those may undo a 1. Raises BadInput for a file
    that is truncated or damaged, or if a larger share of rows is refused than the contract allows, and RunFailed if
    not all rows that were read can be read back.
    """
    if not read.rows and not reported:
        nothing = spark.createDataFrame([], from_arrow_schema(transaction_schema(contract)))
        return Merged(nothing, nothing, 0, 0, {}, {}, frozenset())
    names = transaction_schema(contract).names
    accepted = read_parquet(spark, read.accepted_files, intake_schema(contract)).withColumn("known", F.lit(False))
    if (readable := accepted.count()) != read.rows - read.refused:
        raise RunFailed(
            f"{read.rows - read.refused:,} rows were accepted, and {readable:,} of them can be read back; nothing was "
            "committed. Is the temporary folder full, or was it cleared?"
        )
    reports = _reports(spark, reported, contract)
    ids = accepted.select("transaction_id").unionAll(reports.select("id"))
    if existing is not None:
        ids = ids.unionAll(existing.select("transaction_id"))
        before = existing.select("*", F.lit("").alias("file"), F.lit(0).cast("long").alias("line"))
        rows = accepted.unionByName(before.withColumn("known", F.lit(True)), allowMissingColumns=True)
    else:
        rows = accepted
    refused = read_parquet(spark, read.refused_files, intake_schema(contract)).select(*ORIGIN)
    refused_rows = read.refused
    contested = ids.groupBy("transaction_id").count().where("count > 1").select("transaction_id").persist()
    gains = F.col("is_fraud").isNotNull().alias("gains")
    changes, set_aside = accepted.select(*names, F.lit(True).alias("new"), gains), 0
    if contested.count():
        several = rows.join(contested, "transaction_id", "left_semi")
        judged = _judge(several, reports, names, files, contract).persist()
        set_aside = judged.where("set_aside").count()
        unique = changes.join(contested, "transaction_id", "left_anti").select(*changes.columns)
        changes = judged.where("changed").select(*names, (~F.col("known")).alias("new"), "gains").unionAll(unique)
        clashes = judged.where("clash").select(*ORIGIN[:2], F.lit(CLASH).alias("reason"), F.to_json(F.struct(*names)))
        refused, refused_rows = refused.unionAll(clashes), refused_rows + clashes.count()
    changes = changes.withColumn("day", day_of(F.col("event_time")))
    _check_refused(read.rows, refused_rows, refused, contract)
    days = changes.groupBy("day", "new").agg(F.count("*").alias("rows"), F.count_if("gains").alias("gains")).collect()
    labelled: Counter[int] = Counter()
    for row in days:
        labelled[row["day"]] += row["gains"]
    return Merged(
        changes=changes,
        refused=refused,
        accepted_rows=read.rows - refused_rows,
        refused_rows=refused_rows,
        new={row["day"]: row["rows"] for row in days if row["new"]},
        labelled=labelled,
        label_days=frozenset(row["day"] for row in days if not row["new"]),
        reports_set_aside=set_aside,
    )


def _reports(spark: SparkSession, reported: Mapping[str, Report], contract: Contract) -> DataFrame:
    """The labels reported to the API: id, `reported label`, and decided (the transaction's content)."""
    keys = "".join(f", `{name}`: string" for name in contract.key_names)
    # No column of a contract has a blank in its name.
    schema = f"id string, `reported label` int, decided struct<us: long, amount_minor: long{keys}>"
    rows = [(key, int(label), (event.time_us, event.amount, *event.keys)) for key, (event, label) in reported.items()]
    return spark.createDataFrame(rows, schema)


def _judge(
    rows: DataFrame, reports: DataFrame, names: list[str], files: Sequence[FilePrecedence], contract: Contract
) -> DataFrame:
    """Of the rows whose id occurs more than once, those with one of three marks.

    changed: to be inserted, or given another label; clash: other content than the id's first row; set_aside: a label
    was reported for it, but the decided transaction of that id was another one.
    """
    spark = rows.sparkSession
    ranked = [(file.name, (file.order, file.repeated, file.late)) for file in files]
    of_file = spark.createDataFrame(
        ranked, "file string, `of file` struct<order: int, repeated: boolean, late: boolean>"
    )
    order, repeated, late = (F.col(f"`of file`.{name}") for name in ("order", "repeated", "late"))
    known, fraud, same = F.col("known"), F.col("is_fraud"), F.col("same")
    in_order = Window.partitionBy("transaction_id").orderBy(known.desc(), order, "line")
    all_of_id = in_order.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    first = F.col("row number") == 1
    stored = F.max(F.when(known, F.coalesce(fraud, F.lit(-1)))).over(all_of_id)  # the label in the table
    outdated = (stored == 1) & (fraud == 0) & ~late  # from an export that may be older than the 1
    counts = same & (known | stored.isNull() | ~(repeated | outdated))
    decided = F.struct(F.unix_micros("event_time").alias("us"), "amount_minor", *contract.key_names)
    reported = F.when(decided == F.col("decided"), F.col("reported label"))
    label = F.coalesce(reported, F.last(F.when(counts, fraud), ignorenulls=True).over(all_of_id))
    judged = (
        rows.join(F.broadcast(reports), F.col("transaction_id") == F.col("id"), "left")
        .join(F.broadcast(of_file), "file", "left")
        .withColumn("content", _content(names, contract, all_of_id))
        .withColumn("same", F.col("content") == F.first("content").over(all_of_id))
        .withColumn("row number", F.row_number().over(in_order))
        .withColumn("label", label)
        .withColumn("gains", F.col("label").isNotNull() & (~known | fraud.isNull()))
        .withColumn("changed", first & (~known | ~F.col("label").eqNullSafe(fraud)))
        .withColumn("clash", ~same & ~known)
        .withColumn("set_aside", first & F.col("reported label").isNotNull() & reported.isNull())
    )
    return judged.where("changed OR clash OR set_aside").withColumn("is_fraud", F.when(first, F.col("label")))


def _content(names: Sequence[str], contract: Contract, all_of_id: WindowSpec) -> Column:
    """What distinguishes a row from others of its id. A further column in which a stored row has no value does not:
    that row may be from before the contract had the column."""
    extras = (*contract.numeric, *contract.categorical)
    stored = F.first("known").over(all_of_id)
    compared = [F.when(~stored | F.first(name).over(all_of_id).isNotNull(), F.col(name)).alias(name) for name in extras]
    return F.struct(*[name for name in names if name not in (*extras, "is_fraud")], *compared)


def _check_refused(rows: int, refused_rows: int, refused: DataFrame, contract: Contract) -> None:
    if not refused_rows:
        return
    damaged = refused.where("reason LIKE 'unreadable%'").first()
    if damaged:
        raise BadInput(
            f"{damaged['file']} is truncated or damaged at line {damaged['line']} ({damaged['reason']}); nothing was "
            "committed. Replace the file in incoming/, or remove it, and run again"
        )
    if refused_rows > contract.refuse_above * rows:
        examples = "; ".join(f"{row['file']} line {row['line']}: {row['reason']}" for row in refused.limit(3).collect())
        raise BadInput(
            f"{refused_rows:,} of {rows:,} rows break the contract {contract.name!r}, more than the "
            f"{contract.refuse_above:.0%} it allows (refuse_above); nothing was committed. For example: {examples}"
        )


def rewritten_days(existing: DataFrame | None, merged: Merged, contract: Contract) -> DataFrame:
    """All rows of the days that change: the existing ones with their new labels, and the new ones.

    The existing ones keep the columns that only earlier contracts had.
    """
    new = merged.changes.where("new").select(*transaction_schema(contract).names, "day")
    if existing is None:
        return new
    labels = merged.changes.where("NOT new").select("transaction_id", F.col("is_fraud").alias("label"))
    relabelled = existing.join(labels, "transaction_id", "left")
    relabelled = relabelled.withColumn("is_fraud", F.coalesce("label", "is_fraud"))
    rows = relabelled.select(*existing.columns, day_of(F.col("event_time")).alias("day"))
    return rows.unionByName(new, allowMissingColumns=True)  # new rows lack the columns of earlier contracts
