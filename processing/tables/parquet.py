"""Parquet with checksums: a changed byte in a stored file is an error, never a different value.

Every page, written here or by Spark, carries its CRC, and every reader verifies it. Files of earlier versions have
none, and are read as they are. The footer has no checksum: it is compared with what is known of our files, and its
statistics are never used to skip rows.
"""

from collections.abc import Collection
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

WRITE = {"write_page_checksum": True}  # for ParquetWriter and write_table
READ = {"page_checksum_verification": True}  # for ParquetFile
# For Spark. A filter that is pushed down would rely on the statistics.
SPARK = {
    "spark.hadoop.parquet.page.write-checksum.enabled": "true",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.sql.parquet.filterPushdown": "false",
}
SPARK_LIBRARY = "parquet-mr"  # with which Spark writes Parquet
FAULTS = (
    ArithmeticError,
    LookupError,
    OSError,
    ValueError,
)  # Arrow raises these, or subclasses, for damage


def check_footer(
    file: pq.ParquetFile, schema: pa.Schema | None = None, rows: int | None = None, *, never_null: Collection[str] = ()
) -> None:
    """Raise ValueError unless a footer is valid, and has these columns and so many rows if they are given.

    Spark writes the columns that are `never_null` (taken from the schema, if given) either all as required, or all as
    optional like the other columns. If a footer says otherwise of one column, its null markers would be read as values.
    """
    if rows not in (None, file.metadata.num_rows):
        raise ValueError(f"it has {file.metadata.num_rows:,} rows, the table says {rows:,}")
    if file.metadata.created_by.startswith(SPARK_LIBRARY):
        columns = [file.schema.column(index) for index in range(file.metadata.num_columns)]
        required = {column.name for column in columns if column.max_definition_level == 0}
        full = {field.name for field in schema if not field.nullable} if schema is not None else set(never_null)
        if required and required != full:
            raise ValueError(f"its footer is wrong about nulls in {', '.join(sorted(required ^ full))}")
    for field in schema or ():
        at = file.schema_arrow.get_field_index(field.name)
        kind = file.schema_arrow.field(at).type if at >= 0 else None
        if kind != field.type and not (pa.types.is_string(field.type) and kind == pa.large_string()):
            raise ValueError(f"the column {field.name} is {kind or 'missing'}, expected {field.type}")


def fault_of(path: Path, schema: pa.Schema, rows: int) -> str:
    """What is wrong with a file that should have these columns and rows; "" if nothing is. Reads every page."""
    try:
        with pq.ParquetFile(path, **READ) as file:
            check_footer(file, schema, rows)
            count = 0
            for batch in file.iter_batches():
                batch.validate(full=True)
                count += len(batch)
            if count != rows:
                return f"only {count:,} of its {rows:,} rows can be read"
        return "" if _matches_crc_file(path) else "it cannot be read: its bytes do not match the checksums beside it"
    except FAULTS as error:
        return f"it cannot be read: {first_line(error)}"


def _matches_crc_file(path: Path) -> bool:
    """Whether a file's bytes, including the footer, match the checksums that Spark wrote beside it on a laptop.

    They are in `.<name>.crc`: a magic number of 4 bytes, the number of bytes in a block, then a CRC-32 for each block.
    Spark itself refuses to read a file that differs. True if there is no such file.
    """
    crc_file = path.with_name(f".{path.name}.crc")
    if not crc_file.is_file():
        return True
    stored, content = crc_file.read_bytes(), path.read_bytes()
    size = int.from_bytes(stored[4:8], "big") or len(content)
    blocks = (content[at : at + size] for at in range(0, len(content), size))
    return stored[8:] == b"".join(crc32(block).to_bytes(4, "big") for block in blocks)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which in Arrow's errors names the fault."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]
