"""The files that `fraudline score` writes, complete or not at all: scored rows, and refused rows next to them."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from processing.errors import BadInput
from processing.intake.file_names import SUFFIXES
from processing.tables.parquet import WRITE

SCORED = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("reasons", pa.string()),
        pa.field("history", pa.string()),
        pa.field("threshold", pa.float64()),
        pa.field("model_version", pa.string()),
    ]
)
REFUSED = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("content", pa.string()),
    ]
)


def check_suffix(path: Path) -> str:
    """The suffix, which says the file's format. Raises BadInput for any other than SUFFIXES."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise BadInput(f"{path}: unknown format; expected a file name ending in {', '.join(SUFFIXES)}")


def sibling(path: Path, label: str, suffix: str = "") -> Path:
    """The path of a file that accompanies another: june.csv.gz and "scored" give june.scored.csv.gz."""
    own = check_suffix(path)
    return path.with_name(f"{path.name[: -len(own)]}.{label}{suffix or own}")


class OutputFile:
    """A file written in a `with` block. It appears, and replaces an existing one, when the block ends without an error.

    An `optional` file without rows is not written, and an existing one is removed.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, optional: bool = False) -> None:
        self.path, self.schema, self.optional, self.rows = path, schema, optional, 0
        self._partial = path.with_name(f".writing-{os.getpid()}-{path.name}")
        self._stream: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        if not self.optional:
            self._open()
        return self

    def write(self, columns: dict[str, Any]) -> None:
        """Add rows, as columns."""
        table = pa.table(columns, schema=self.schema)
        if len(table):
            if self._writer is None:
                self._open()
            self._writer.write_table(table)
            self.rows += len(table)

    def _open(self) -> None:
        suffix = check_suffix(self.path)
        try:
            self._stream = pa.output_stream(str(self._partial), compression="gzip" if suffix.endswith(".gz") else None)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror or error}") from None
        if suffix == ".parquet":
            self._writer = pq.ParquetWriter(self._stream, self.schema, **WRITE)
        else:
            self._writer = pyarrow.csv.CSVWriter(self._stream, self.schema)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
                self._stream.close()
            if kind is None and self._writer is not None:
                with open(self._partial, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(self._partial, self.path)
            elif kind is None:
                self.path.unlink(missing_ok=True)  # from an earlier attempt
        finally:
            self._partial.unlink(missing_ok=True)
