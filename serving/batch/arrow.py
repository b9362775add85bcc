"""A batch as an Arrow IPC stream, read as a stranger's file is: nothing in it may take more memory than it should."""

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

from serving.api.problems import Unreadable
from serving.batch.arrow_messages import check
from serving.batch.formats import Garbled, Most, Row, Writer, too_long

ANSWER = pa.schema(
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
UNREADABLE = (pa.ArrowException, ValueError, OverflowError)  # what a value has that Python's types do not
GROUP = 40  # rows that are made into Python's values together


def read(body: bytes, most: Most) -> "ArrowRows":
    """The rows of a stream. Raises as `Format.read` does."""
    batches, work = list[pa.RecordBatch](), 0
    try:
        check(body, most)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            for field in reader.schema:
                _values(field.name, pa.nulls(0, field.type))  # an extension's type is known only here
            for batch in reader:
                batch.validate()  # what it says of its own texts' places is not trusted
                work += batch.nbytes  # of columns and dictionaries that share bytes, each time
                if work > most.work:
                    raise ValueError("its columns or dictionaries share bytes, and would be too much to read")
                batch.validate(full=True)
                batches.append(batch)
    except (pa.ArrowException, OSError, ValueError, OverflowError, struct.error) as error:
        raise Unreadable(f"the body is not an Arrow stream that can be read: {error}") from None
    return ArrowRows(batches, most.row_bytes)


class ArrowRows(Collection[Row]):
    """The rows of record batches, made as they are asked for. Times are ISO-8601 texts, NaN is nothing."""

    def __init__(self, batches: Sequence[pa.RecordBatch], most_bytes: int) -> None:
        self.batches, self.most_bytes = batches, most_bytes

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def __contains__(self, row: object) -> bool:
        return any(each == row for each in self)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches:
            long = _text_bytes(batch) > self.most_bytes
            for start in range(0, batch.num_rows, GROUP):
                group = batch.slice(start, GROUP)
                if not long[start : start + GROUP].any():
                    try:
                        yield from _rows(group)
                        continue
                    except UNREADABLE:
                        pass  # one of them is; which one is seen below
                for i in range(group.num_rows):
                    yield too_long(self.most_bytes) if long[start + i] else _row(group.slice(i, 1))


def _text_bytes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """How many bytes of text each row has, columns that share them counted each, [n]."""
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
    except UNREADABLE as error:
        return Garbled(f"the row cannot be read: {error}")


def _values(name: str, column: pa.Array) -> list[Any]:
    kind = column.type
    if kinds.is_dictionary(kind):  # each value made once, however often it stands in the column
        places = column.indices.to_pylist()
        asked = sorted({place for place in places if place is not None})
        known = dict(zip(asked, _values(name, column.dictionary.take(pa.array(asked, pa.int64()))), strict=True))
        return [None if place is None else known[place] for place in places]
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        zoned = kinds.is_timestamp(kind) and kind.tz
        plain = column.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False)
        return _each(plain, datetime.isoformat)
    if kinds.is_floating(kind):
        return _each(column, lambda value: None if math.isnan(value) else value)
    if kinds.is_decimal(kind):
        return _each(column, lambda value: float(value) if isinstance(value, Decimal) else value)
    if kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_string(kind) or kinds.is_large_string(kind):
        return _each(column, lambda value: value)
    if kinds.is_null(kind):
        return [None] * len(column)
    raise ValueError(f"its column {name!r} has the type {kind}; expected numbers, texts, times or true and false")


def _each(column: pa.Array, read: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else read(value) for value in column.to_pylist()]


class ArrowWriter(Writer):
    """Writes answers in the schema `ANSWER`."""

    def __init__(self) -> None:
        self._sink = io.BytesIO()
        self._stream = pa.ipc.new_stream(self._sink, ANSWER)

    def write(self, answers: Sequence[BaseModel]) -> bytes:
        rows = [answer.model_dump() for answer in answers]
        for row in rows:
            row["error"] = row["error"]["message"] if row.get("error") else None
        self._stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=ANSWER))
        return self._taken()

    def end(self) -> bytes:
        self._stream.close()
        return self._taken()

    def _taken(self) -> bytes:
        part = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return part
