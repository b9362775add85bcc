"""A batch as an Arrow IPC stream, read as a stranger's file is: nothing in it may take more memory than it should."""

import io
import math
import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds
from pydantic import BaseModel

from serving.batch_formats import Row, Writer, too_many
from serving.problems import Unreadable

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
RECORDS, DICTIONARY = 3, 2  # types of a message, see Message.fbs and Schema.fbs of the Arrow format


def read(body: bytes, most: int) -> list[Row]:
    """The rows of a stream. Times become ISO-8601 texts, NaN becomes nothing. Raises as `Format.read` does."""
    rows: list[Row] = []
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            names = reader.schema.names
            for batch in reader:
                if len(rows) + batch.num_rows > most:
                    raise too_many(most)
                batch.validate(full=True)  # what it says of its own texts' places is not trusted
                columns = [_values(name, column) for name, column in zip(names, batch.columns, strict=True)]
                rows += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    except (pa.ArrowException, OSError, ValueError, OverflowError, struct.error) as error:
        raise Unreadable(f"the body is not an Arrow stream that can be read: {error}") from None
    return rows


def _refuse_compressed(body: bytes) -> None:
    """Raise ValueError for compressed columns: a short stream could unpack into more than there is memory."""
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        head = message.metadata.to_pybytes()
        kind, header = _follow(head, _root(head), 1, "B"), _table(head, _root(head), 2)
        if kind == DICTIONARY:
            header = _table(head, header, 1)
        if kind in (RECORDS, DICTIONARY) and _place(head, header, 3):
            raise ValueError("its columns are compressed; write it without compression")


# Enough of FlatBuffers to look up a field of a table: its place stands in the table's list of places.


def _root(head: bytes) -> int:
    return int(struct.unpack_from("<I", head, 0)[0])


def _place(head: bytes, table: int, field: int) -> int:
    fields = table - struct.unpack_from("<i", head, table)[0]
    (size,) = struct.unpack_from("<H", head, fields)
    at = struct.unpack_from("<H", head, fields + 4 + 2 * field)[0] if 6 + 2 * field <= size else 0
    return table + at if at else 0


def _follow(head: bytes, table: int, field: int, kind: str) -> int:
    at = _place(head, table, field)
    return int(struct.unpack_from("<" + kind, head, at)[0]) if at else 0


def _table(head: bytes, table: int, field: int) -> int:
    at = _place(head, table, field)
    return at + int(struct.unpack_from("<I", head, at)[0])


def _values(name: str, column: pa.Array) -> list[Any]:
    kind = column.type
    if kinds.is_dictionary(kind):  # each value made once, however often it stands in the column
        known = _values(name, column.dictionary)
        return [None if i is None else known[i] for i in column.indices.to_pylist()]
    if kinds.is_temporal(kind) and (kinds.is_timestamp(kind) or kinds.is_date(kind)):
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
