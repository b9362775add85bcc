"""A Parquet file as raw rows in bounded memory. Only the named columns are read.

A small file can expand to a huge one: a dictionary value repeated for millions of rows, a page of gigabytes. So texts
stay in their dictionaries until their lengths are known, few rows are decoded at a time, the file's own figures are
checked first, and memory is limited for whatever expands anyway.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from processing.errors import BadInput
from processing.intake.columns import is_text, without_long_values
from processing.intake.limits import CELL_BYTES, CHUNK_BYTES, COLUMNS, ROWS_FREE, ROWS_PER_BYTE, bounded_memory
from processing.intake.raw_rows import RawRows, as_content
from processing.intake.records import UnreadableRows
from processing.tables.parquet import FAULTS, READ

BATCH = 16_384  # rows decoded at a time


class ParquetFile:
    """A readable file. Raises BadInput, which does not name the file, if it is not Parquet or exceeds a limit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with bounded_memory(), pq.ParquetFile(path) as file:
                self.metadata, self.schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise BadInput(f"cannot be read as Parquet: {error}") from None
        self.names: list[str] = self.schema.names
        if self.metadata.num_columns > COLUMNS:
            raise BadInput(f"has {self.metadata.num_columns:,} columns; the limit is {COLUMNS:,}")
        rows, most = self.metadata.num_rows, ROWS_FREE + ROWS_PER_BYTE * path.stat().st_size
        if rows > most:
            raise BadInput(f"claims {rows:,} rows; a file of its size can have at most {most:,}")

    def check(self, columns: Sequence[str]) -> None:
        """Raise BadInput for a column of a type that cannot be read, or one that is too large in a row group."""
        for name in columns:
            kind = self.schema.field(name).type
            if not _plain(kind):
                raise BadInput(
                    f"has the column {name!r} of type {kind}; expected text, numbers, booleans, dates or timestamps"
                )
        for group in range(self.metadata.num_row_groups):
            for i in range(self.metadata.num_columns):
                chunk = self.metadata.row_group(group).column(i)
                if chunk.path_in_schema in columns and chunk.total_uncompressed_size > CHUNK_BYTES:
                    raise BadInput(
                        f"has a row group with more than {CHUNK_BYTES:,} bytes of {chunk.path_in_schema!r}; "
                        "write it with smaller row groups"
                    )

    def raw_rows(self, columns: Sequence[str]) -> Iterator[RawRows]:
        """The rows, with the named columns. Raises UnreadableRows where the file is damaged or expands too far."""
        row = 1
        others = [name for name in self.names if name not in columns and self.names.count(name) == 1]
        others = [name for name in others if _plain(self.schema.field(name).type)]
        try:
            for group in range(self.metadata.num_row_groups):
                other_columns = _OtherColumns(self, group, others)
                for batch in self.batches(group, columns):
                    yield self._rows(batch, row, other_columns)
                    row += len(batch)
            if row - 1 != self.metadata.num_rows:
                raise UnreadableRows(row, f"it claims {self.metadata.num_rows:,} rows and has {row - 1:,}")
        except MemoryError:
            raise UnreadableRows(row, "it expands beyond the memory limit for reading") from None
        except (*FAULTS, pa.ArrowException) as error:  # their texts may hold values
            raise UnreadableRows(row, f"it is truncated or damaged ({type(error).__name__})") from None

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of one row group, texts as dictionaries."""
        with bounded_memory():
            file = pq.ParquetFile(
                self.path,
                metadata=self.metadata,
                read_dictionary=columns,
                pre_buffer=False,
                buffer_size=1 << 20,
                **READ,
            )
        with file:
            batches = file.iter_batches(BATCH, [group], list(columns), use_threads=False)
            while True:
                with bounded_memory():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    def _rows(self, batch: pa.RecordBatch, row: int, other_columns: "_OtherColumns") -> RawRows:
        begin = other_columns.rows_read
        other_columns.rows_read += len(batch)

        def contents(positions: Sequence[int]) -> list[str]:
            others = other_columns.rows([begin + position for position in positions])
            rows = [own | other for own, other in zip(_values(batch, positions), others, strict=True)]
            return [as_content((name, row[name]) for name in self.names if name in row) for row in rows]

        columns = {name: batch.column(name) for name in batch.schema.names}
        return RawRows(columns, np.arange(row, row + len(batch)), (), contents)


class _OtherColumns:
    """The columns of a row group that are not named. They are read once, and only if the content of a row is needed.

    rows_read: how many rows of the group were read of the named columns
    """

    def __init__(self, file: ParquetFile, group: int, names: Sequence[str]) -> None:
        self.rows_read = self._begin = self._end = 0
        self._batches = file.batches(group, names) if names else None
        self._batch: Any = None

    def rows(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """The rows at some positions in the group, which ascend from one call to the next."""
        if self._batches is None:
            return [{} for _ in positions]
        found: list[dict[str, Any]] = []
        while len(found) < len(positions):
            inside = [position - self._begin for position in positions[len(found) :] if position < self._end]
            if inside:
                found += _values(self._batch, inside)
            else:
                self._batch = next(self._batches)
                self._begin, self._end = self._end, self._end + len(self._batch)
        return found


def _values(batch: pa.RecordBatch, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at some positions in a batch, for JSON."""
    at = pa.array(positions, pa.int64())
    columns = {name: _for_json(batch.column(name).take(at)) for name in batch.schema.names}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(positions))]


def _for_json(column: pa.Array) -> list[Any]:
    values, long = without_long_values(column)
    if is_text(values.type):
        values = values.cast(pa.large_binary())  # it need not be UTF-8
    try:
        found: list[Any] = values.to_pylist()
    except (ValueError, OverflowError):  # times beyond the range of Python
        found = values.cast(pa.string()).to_pylist()
    return [f"(more than {CELL_BYTES:,} bytes)" if over else value for value, over in zip(found, long, strict=True)]


def _plain(kind: pa.DataType) -> bool:
    """Whether columns of a type can be read, unlike lists, structs, durations and times of day."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    t = pa.types
    tests = (t.is_null, t.is_boolean, t.is_integer, t.is_floating, t.is_decimal, t.is_timestamp, t.is_date)
    return is_text(kind) or any(test(kind) for test in tests)
