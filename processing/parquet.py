"""Parquet with checksums: a byte that has changed in a stored file is an error, never another value.

Every page that is written, here or by Spark, carries its CRC, and every reader verifies it. A file of before, without
them, is read as it is. The footer has none: a row count is held against the table's, and no rows are passed over on
the word of its statistics.
"""

from pathlib import Path

import pyarrow.parquet as pq

WRITE = {"write_page_checksum": True}  # for ParquetWriter and write_table
READ = {"page_checksum_verification": True}  # for ParquetFile
# For Spark. A filter that is pushed down would trust the statistics.
SPARK = {
    "spark.hadoop.parquet.page.write-checksum.enabled": "true",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.sql.parquet.filterPushdown": "false",
}
FAULTS = (ArithmeticError, LookupError, OSError, ValueError)  # what Arrow raises over damage; its own are among them


def fault_of(path: Path, rows: int) -> str:
    """What is wrong with a file that should hold so many rows; "" if nothing is. Every page is read."""
    try:
        with pq.ParquetFile(path, **READ) as file:
            if file.metadata.num_rows != rows:
                return f"it holds {file.metadata.num_rows:,} rows, the table says {rows:,}"
            found = 0
            for batch in file.iter_batches():
                batch.validate(full=True)
                found += len(batch)
            return "" if found == rows else f"{found:,} of its {rows:,} rows can be read"
    except FAULTS as error:
        return f"it cannot be read: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, which for Arrow's is the fault."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]
