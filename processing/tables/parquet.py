"""Parquet with checksums: a byte that has changed in a stored file is an error, never another value.

Every page that is written, here or by Spark, carries its CRC, and every reader verifies it. A file of before, without
them, is read as it is. The footer has no checksum: it is held against what is known of our files, and no rows are
passed over on the word of its statistics.
"""

from collections.abc import Collection
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

WRITE = {"write_page_checksum": True}  # for ParquetWriter and write_table
READ = {"page_checksum_verification": True}  # for ParquetFile
# For Spark. A filter that is pushed down would trust the statistics.
SPARK = {
    "spark.hadoop.parquet.page.write-checksum.enabled": "true",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.sql.parquet.filterPushdown": "false",
}
SPARKS = "parquet-mr"  # the library by which Spark writes
FAULTS = (ArithmeticError, LookupError, OSError, ValueError)  # what Arrow raises over damage; its own are among them


def check_footer(
    file: pq.ParquetFile, schema: pa.Schema | None = None, rows: int | None = None, *, never_null: Collection[str] = ()
) -> None:
    """Raise ValueError unless a footer is that of a sound file: with these columns and so many rows, if given.

    Spark writes the columns that are `never_null` (those of the schema, if it is given) all alike: as required ones, or
    as ones that may have nulls, as all others are. Were a footer to say otherwise of a column, what tells its nulls
    would be read as values.
    """
    if rows not in (None, file.metadata.num_rows):
        raise ValueError(f"it holds {file.metadata.num_rows:,} rows, the table says {rows:,}")
    if file.metadata.created_by.startswith(SPARKS):
        columns = [file.schema.column(place) for place in range(file.metadata.num_columns)]
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
    """What is wrong with a file that should have these columns and so many rows; "" if nothing is. Reads every page."""
    try:
        with pq.ParquetFile(path, **READ) as file:
            check_footer(file, schema, rows)
            found = 0
            for batch in file.iter_batches():
                batch.validate(full=True)
                found += len(batch)
            if found != rows:
                return f"{found:,} of its {rows:,} rows can be read"
        return "" if _is_as_beside(path) else "it cannot be read: its bytes do not have the checksums beside it"
    except FAULTS as error:
        return f"it cannot be read: {first_line(error)}"


def _is_as_beside(path: Path) -> bool:
    """Whether a file's bytes, the footer's too, have the checksums that Spark wrote beside it on a laptop.

    Those are in `.<name>.crc`: after a word of 4 bytes, how many bytes each is of, then a CRC-32 each. Spark itself
    refuses to read a file that differs. True if there are none.
    """
    beside = path.with_name(f".{path.name}.crc")
    if not beside.is_file():
        return True
    stored, content = beside.read_bytes(), path.read_bytes()
    size = int.from_bytes(stored[4:8], "big") or len(content)
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return stored[8:] == b"".join(crc32(piece).to_bytes(4, "big") for piece in pieces)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, which for Arrow's is the fault."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]
