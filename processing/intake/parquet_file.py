"""A Parquet file as raw rows in bounded memory, of the columns that are wanted and no others.

A small file can stand for much: a value in a dictionary for millions of rows, a page for gigabytes. So texts stay in
their dictionaries until their lengths are known, few rows are decoded at a time, what the file says of itself is
checked before anything is, and what expands all the same meets a limit of memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from processing.errors import BadInput
from processing.intake.columns import is_text, short
from processing.intake.limits import CELL_BYTES, CHUNK_BYTES, COLUMNS, ROWS_FREE, ROWS_PER_BYTE, bounded_memory
from processing.intake.raw_rows import RawRows, as_content
from processing.intake.records import Unreadable
from processing.tables.parquet import FAULTS, READ

BATCH = 16_384  # rows that are decoded at a time


class ParquetFile:
    """Raises BadInput, without the file's name, for one that is no such file or says of itself that it is too large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with bounded_memory(), pq.ParquetFile(path) as file:
                self.metadata, self.schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise BadInput(f"cannot be read as Parquet: {error}") from None
        self.names: list[str] = self.schema.names
        if self.metadata.num_columns > COLUMNS:
            raise BadInput(f"has {self.metadata.num_columns:,} columns; at most {COLUMNS:,} are read")
        rows, most = self.metadata.num_rows, ROWS_FREE + ROWS_PER_BYTE * path.stat().st_size
        if rows > most:
            raise BadInput(f"says that it has {rows:,} rows, more than the {most:,} that a file of its size can have")

    def check(self, wanted: Sequence[str]) -> None:
        """Raise BadInput for a column whose type cannot be read, or which is too large in one row group."""
        for name in wanted:
            kind = self.schema.field(name).type
            if not _plain(kind):
                raise BadInput(
                    f"has the column {name!r} of type {kind}; text, numbers, booleans, dates and timestamps are read"
                )
        for group in range(self.metadata.num_row_groups):
            for place in range(self.metadata.num_columns):
                chunk = self.metadata.row_group(group).column(place)
                if chunk.path_in_schema in wanted and chunk.total_uncompressed_size > CHUNK_BYTES:
                    raise BadInput(
                        f"has a row group with more than {CHUNK_BYTES:,} bytes of {chunk.path_in_schema!r}; "
                        "write it with smaller row groups"
                    )

    def raw_rows(self, wanted: Sequence[str]) -> Iterator[RawRows]:
        """The rows. Raises Unreadable from the row on where the file is damaged or expands too far."""
        row = 1
        others = [name for name in self.names if name not in wanted and self.names.count(name) == 1]
        others = [name for name in others if _plain(self.schema.field(name).type)]
        try:
            for group in range(self.metadata.num_row_groups):
                rest = _Rest(self, group, others)
                for batch in self.batches(group, wanted):
                    yield self._rows(batch, row, rest)
                    row += len(batch)
            if row - 1 != self.metadata.num_rows:
                raise Unreadable(row, f"it says that it has {self.metadata.num_rows:,} rows, and has {row - 1:,}")
        except MemoryError:
            raise Unreadable(row, "it expands to more than the memory that reading may take") from None
        except (*FAULTS, pa.ArrowException) as error:  # the text of which may hold values
            raise Unreadable(row, f"it is truncated or damaged ({type(error).__name__})") from None

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

    def _rows(self, batch: pa.RecordBatch, row: int, rest: "_Rest") -> RawRows:
        begin = rest.passed
        rest.passed += len(batch)

        def contents(places: Sequence[int]) -> list[str]:
            own = _values(batch, places)
            found = zip(own, rest.rows([begin + place for place in places]), strict=True)
            rows = [mine | further for mine, further in found]
            return [as_content((name, row[name]) for name in self.names if name in row) for row in rows]

        columns = {name: batch.column(name) for name in batch.schema.names}
        return RawRows(columns, np.arange(row, row + len(batch)), (), contents)


class _Rest:
    """The further columns of a row group. They are read once, and only if the whole content of a row is asked for.

    passed: how many rows of the group were read of the columns that are wanted
    """

    def __init__(self, file: ParquetFile, group: int, names: Sequence[str]) -> None:
        self.passed = self._begin = self._end = 0
        self._batches = file.batches(group, names) if names else None
        self._batch: Any = None

    def rows(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """The values at some places of the group, which ascend from one call to the next."""
        if self._batches is None:
            return [{} for _ in places]
        found: list[dict[str, Any]] = []
        while len(found) < len(places):
            inside = [place - self._begin for place in places[len(found) :] if place < self._end]
            if inside:
                found += _values(self._batch, inside)
            else:
                self._batch = next(self._batches)
                self._begin, self._end = self._end, self._end + len(self._batch)
        return found


def _values(batch: pa.RecordBatch, places: Sequence[int]) -> list[dict[str, Any]]:
    """The values at some places of a batch, for JSON."""
    columns = {name: _shown(batch.column(name).take(pa.array(places, pa.int64()))) for name in batch.schema.names}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(places))]


def _shown(column: pa.Array) -> list[Any]:
    values, long = short(column)
    if is_text(values.type):
        values = values.cast(pa.large_binary())  # that need not be UTF-8
    try:
        found: list[Any] = values.to_pylist()
    except (ValueError, OverflowError):  # times that Python has not
        found = values.cast(pa.string()).to_pylist()
    return [f"(more than {CELL_BYTES:,} bytes)" if over else value for value, over in zip(found, long, strict=True)]


def _plain(kind: pa.DataType) -> bool:
    """Whether columns of a type can be read: no lists, structs, durations, times of day."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    of = pa.types
    tests = (of.is_null, of.is_boolean, of.is_integer, of.is_floating, of.is_decimal, of.is_timestamp, of.is_date)
    return is_text(kind) or any(test(kind) for test in tests)
