"""A batch as an Arrow IPC stream. The sender is not trusted: no stream may take more memory than the limits allow."""

import io
import math
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
from numpy.typing import NDArray
from pydantic import BaseModel

from serving.api.problems import MalformedRequest
from serving.batch.arrow_messages import check_messages
from serving.batch.format import BatchLimits, Row, RowWriter, UnreadableRow, row_too_long

RESPONSE_SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("model_version", pa.string()),
        pa.field("repeated", pa.bool_()),
        pa.field("behaviour", pa.string()),
        pa.field("reasons", pa.list_(pa.struct({"text": pa.string(), "feature": pa.string(), "weight": pa.float64()}))),
        pa.field("row", pa.int64()),
        pa.field("status", pa.int32()),
        pa.field("error", pa.string()),
    ]
)
CONVERSION_ERRORS = (pa.ArrowException, ValueError, OverflowError)  # for values that Python's types cannot hold
GROUP = 40  # rows that are converted to Python values together


def read_stream(body: bytes, limits: BatchLimits) -> "ArrowRows":
    """The rows of a stream. Raises as `BatchFormat.read` does."""
    batches, work = list[pa.RecordBatch](), 0
    try:
        check_messages(body, limits)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            for field in reader.schema:
                _values(field.name, pa.nulls(0, field.type))  # refuses extension types, which only PyArrow resolves
            for batch in reader:
                batch.validate()  # checks the offsets of its texts
                work += batch.nbytes  # counts bytes that columns or dictionaries share each time
                if work > limits.work:
                    raise ValueError("its columns or dictionaries share bytes, and would be too much to read")
                batch.validate(full=True)
                batches.append(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError, struct.error) as error:
        raise MalformedRequest(f"the body is not a readable Arrow stream: {error}") from None
    return ArrowRows(batches, limits.row_bytes)


class ArrowRows(Collection[Row]):
    """The rows of record batches, converted on demand. Times become ISO-8601 texts, NaN becomes None."""

    def __init__(self, batches: Sequence[pa.RecordBatch], max_bytes: int) -> None:
        self.batches, self.max_bytes = batches, max_bytes

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def __contains__(self, row: object) -> bool:
        return any(each == row for each in self)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches:
            long = _text_bytes(batch) > self.max_bytes
            for start in range(0, batch.num_rows, GROUP):
                group = batch.slice(start, GROUP)
                if not long[start : start + GROUP].any():
                    try:
                        yield from _rows(group)
                        continue
                    except CONVERSION_ERRORS:
                        pass  # convert them one by one below, to find the unreadable one
                for i in range(group.num_rows):
                    yield row_too_long(self.max_bytes) if long[start + i] else _row(group.slice(i, 1))


def _text_bytes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """The bytes of text in each row, where shared bytes count for each column, [n]."""
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        texts = column.dictionary if kinds.is_dictionary(column.type) else column
        if kinds.is_string(texts.type) or kinds.is_large_string(texts.type):
            lengths = pc.binary_length(texts)
            lengths = lengths.take(column.indices) if texts is not column else lengths
            total += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return total


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    names = batch.schema.names
    columns = [_values(name, column) for name, column in zip(names, batch.columns, strict=True)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _row(batch: pa.RecordBatch) -> Row:
    try:
        return _rows(batch)[0]
    except CONVERSION_ERRORS as error:
        return UnreadableRow(f"the row cannot be read: {error}")


def _values(name: str, column: pa.Array) -> list[Any]:
    kind = column.type
    if kinds.is_dictionary(kind):  # convert each value once, however often the column contains it
        indices = column.indices.to_pylist()
        used = sorted({index for index in indices if index is not None})
        values = dict(zip(used, _values(name, column.dictionary.take(pa.array(used, pa.int64()))), strict=True))
        return [None if index is None else values[index] for index in indices]
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        zoned = kinds.is_timestamp(kind) and kind.tz
        plain = column.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False)
        return _convert(plain, datetime.isoformat)
    if kinds.is_floating(kind):
        return _convert(column, lambda value: None if math.isnan(value) else value)
    if kinds.is_decimal(kind):
        return _convert(column, lambda value: float(value) if isinstance(value, Decimal) else value)
    if kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_string(kind) or kinds.is_large_string(kind):
        return _convert(column, lambda value: value)
    if kinds.is_null(kind):
        return [None] * len(column)
    raise ValueError(f"its column {name!r} has the type {kind}; expected numbers, texts, times or booleans")


def _convert(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in column.to_pylist()]


class ArrowWriter(RowWriter):
    """Writes rows in `RESPONSE_SCHEMA`."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._stream = pa.ipc.new_stream(self._sink, RESPONSE_SCHEMA)

    def write(self, rows: Sequence[BaseModel]) -> bytes:
        values = [row.model_dump() for row in rows]
        for row in values:
            row["error"] = row["error"]["message"] if row.get("error") else None
        self._stream.write_batch(pa.RecordBatch.from_pylist(values, schema=RESPONSE_SCHEMA))
        return self._flush()

    def end(self) -> bytes:
        self._stream.close()
        return self._flush()

    def _flush(self) -> bytes:
        part = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return part
