"""The newest snapshot of a table: its id, files and row counts, from the table's metadata alone."""

from pyiceberg.table import FileScanTask, Table

from processing.tables.reading import reading

# Properties of the features table.
MADE_FROM = "fraudline.transactions-snapshot"
DEFINITION = "fraudline.features-definition"


def snapshot_id(table: Table | None) -> int | None:
    """The id of the newest snapshot; None if the table is empty."""
    snapshot = table.current_snapshot() if table else None
    return snapshot.snapshot_id if snapshot else None


def made_from(table: Table | None) -> int | None:
    """The snapshot of the transactions that a features table was last computed from."""
    snapshot = table.properties.get(MADE_FROM) if table else None
    return int(snapshot) if snapshot else None


def definition_of(table: Table | None) -> str | None:
    """The digest of the definition that a features table was computed by; None for one of an earlier version."""
    return table.properties.get(DEFINITION) if table else None


def row_counts(table: Table | None, *, labelled: bool = False) -> dict[int, int]:
    """The number of rows of each day, or only of those with a label."""
    if table is None:
        return {}
    label = table.schema().find_field("is_fraud").field_id
    days: dict[int, int] = {}
    for task in scan_tasks(table):
        day, unlabelled = day_of(task), (task.file.null_value_counts or {}).get(label, 0)
        days[day] = days.get(day, 0) + task.file.record_count - (unlabelled if labelled else 0)
    return dict(sorted(days.items()))


def scan_tasks(table: Table | None, snapshot: int | None = None) -> list[FileScanTask]:
    """The data files of a snapshot, by default the newest, each as a task. Raises Damaged."""
    if table is None:
        return []
    with reading(f"the table {table.name()[-1]}, {table.metadata_location}"):
        return list(table.scan(snapshot_id=snapshot).plan_files())


def day_of(task: FileScanTask) -> int:
    """The day of a data file, numbered from 1970-01-01."""
    return int(task.file.partition[0])
