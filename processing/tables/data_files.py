"""The data files of a table: read their rows with checksums, and check their footers."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import FileScanTask, Table

from processing.errors import Damaged, NotFound
from processing.storage.home import Home
from processing.tables.catalog import REPAIR
from processing.tables.locations import key_of
from processing.tables.parquet import READ, check_footer
from processing.tables.reading import reading
from processing.tables.snapshots import day_of, scan_tasks

FOOTERS_AT_ONCE = 16  # in S3 each is a request or two


def read_rows(
    home: Home,
    table: Table | None,
    schema: pa.Schema,
    days: Collection[int] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of some days (None: all), or some of their columns. Raises Damaged.

    Unlike Iceberg's own scan, this verifies checksums.
    """
    parts = []
    nullable = pa.schema([schema.field(column).with_nullable(True) for column in columns or schema.names])
    for task in scan_tasks(table):
        if days is None or day_of(task) in days:
            key = key_of(home, task.file.file_path)
            where = home.url_of(key)
            try:
                with reading(where), home.local_file(key) as path, pq.ParquetFile(path, **READ) as file:
                    check_footer(file, columns_in(task, table, schema), task.file.record_count)
                    parts.append(_completed(file.read(columns=nullable.names), nullable))
            except NotFound:
                raise Damaged(f"{where} is missing; {REPAIR}") from None
    return pa.concat_tables(parts) if parts else nullable.empty_table()


def check_footers(home: Home, table: Table | None, schema: pa.Schema, keys: Collection[str]) -> None:
    """Check the footers of those files among `keys` that the table has. Raises Damaged."""

    def check(task: FileScanTask) -> None:
        assert table is not None
        where = home.url_of(key_of(home, task.file.file_path))
        with reading(where), table.io.new_input(task.file.file_path).open() as stream:
            check_footer(pq.ParquetFile(stream), columns_in(task, table, schema), task.file.record_count)

    tasks = [task for task in scan_tasks(table) if key_of(home, task.file.file_path) in keys] if keys else []
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        list(pool.map(check, tasks))


def columns_in(task: FileScanTask, table: Table | None, schema: pa.Schema) -> pa.Schema:
    """Those columns of the schema that a data file has. It lacks the ones that were added to the table later.

    The table itself says so: it counts the values of each column that a file has, not the file's footer.
    """
    counted = task.file.value_counts
    if table is None or not counted:
        return schema
    present = {field.name for field in table.schema().fields if field.field_id in counted}
    return pa.schema([field for field in schema if field.name in present or not field.nullable])


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of the schema; null in those that they lack."""
    has = set(rows.schema.names)
    columns = [
        rows.column(field.name).cast(field.type) if field.name in has else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def count_rows(table: Table | None, days: Collection[int]) -> int:
    """The number of rows of some days, as the files themselves say."""
    tasks = [task for task in scan_tasks(table) if day_of(task) in days]
    count = 0
    for task in tasks:
        assert table is not None
        with reading(task.file.file_path), table.io.new_input(task.file.file_path).open() as file:
            count += pq.read_metadata(file).num_rows
    return count
