"""Checks of an Arrow stream's message headers, before PyArrow reads the stream.

The headers are FlatBuffers, in which many fields may refer to the same bytes: a short header can describe more columns,
names and levels than fit into memory. So the numbers in the headers themselves are checked first. See Message.fbs and
Schema.fbs of the Arrow format.
"""

import struct
from typing import NamedTuple

import pyarrow as pa

from serving.api.problems import shorten
from serving.batch.format import BatchLimits, too_many_rows

SCHEMA, DICTIONARY, RECORDS = 1, 2, 3
MAX_MESSAGES = 2_000
MAX_HEADER_BYTES = 262_144  # of one message, without its columns
MAX_NAME_BYTES = 64 << 20  # of all names and metadata in a schema, if each were as long as the whole header
ACCEPTED_TYPES = {1, 2, 3, 5, 6, 7, 8, 10, 20}  # null, int, float, utf8, bool, decimal, date, timestamp, large utf8
TYPE_NAMES = {
    4: "binary",
    9: "time",
    11: "interval",
    12: "list",
    13: "struct",
    14: "union",
    15: "fixed size binary",
    16: "fixed size list",
    17: "map",
    18: "duration",
    19: "large binary",
    21: "large list",
    22: "run-end encoded",
    23: "binary view",
    24: "utf8 view",
    25: "list view",
    26: "large list view",
}


def check_messages(body: bytes, limits: BatchLimits) -> None:
    """Check all messages of a stream.

    Raises TooLarge for too many rows; ValueError for a stream that would take more memory than its bytes, or has
    columns that no transaction has; struct.error and PyArrow's errors for a damaged stream.
    """
    rows = 0
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
        if number == MAX_MESSAGES:
            raise ValueError(f"it has more than {MAX_MESSAGES:,} messages; put more rows into each")
        data = message.metadata.to_pybytes()
        if len(data) > MAX_HEADER_BYTES:
            raise ValueError(f"the header of a message is longer than {MAX_HEADER_BYTES:,} bytes")
        root = _Table.root(data)
        kind, header = root.byte(1), root.table(2)
        if kind == SCHEMA:
            _check_schema(header, limits)
        elif kind in (DICTIONARY, RECORDS):
            if kind == DICTIONARY and header.byte(2):
                raise ValueError("it extends a dictionary that was sent earlier; send each dictionary whole")
            columns = header.table(1) if kind == DICTIONARY else header
            if columns.has(3):
                raise ValueError("its columns are compressed; send it without compression")
            length = columns.long(0)
            if length < 0:
                raise ValueError("a message has a negative number of rows")
            rows += length if kind == RECORDS else 0
            if rows > limits.rows:
                raise too_many_rows(limits.rows)


def _check_schema(schema: "_Table", limits: BatchLimits) -> None:
    if schema.byte(0):
        raise ValueError("its numbers are big-endian; send them little-endian")
    columns = schema.vector(1)
    if columns.size > limits.fields:
        raise ValueError(f"it has {columns.size:,} columns; the limit is {limits.fields}, with unknown ones")
    fields = [columns.table(i) for i in range(columns.size)]
    metadata = schema.vector(2).size + sum(field.vector(6).size for field in fields)
    if (len(fields) + 2 * metadata) * len(schema.data) > MAX_NAME_BYTES:
        raise ValueError("its schema has more names and metadata than can be read")
    for field in fields:
        kind = field.byte(2)
        if kind not in ACCEPTED_TYPES or field.vector(5).size:
            name = TYPE_NAMES.get(kind, f"number {kind}")
            raise ValueError(
                f"its column {shorten(field.text(0))!r} has the type {name}; expected numbers, texts, times or booleans"
            )


class _Vector(NamedTuple):
    """A vector of tables: where the first one is, and how many there are."""

    data: bytes
    start: int
    size: int

    def table(self, i: int) -> "_Table":
        at = self.start + 4 * i
        return _Table(self.data, at + _read("<I", self.data, at))


class _Table(NamedTuple):
    """A table of a FlatBuffer, which has a list of its fields' offsets. A missing field has the offset 0."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _read("<I", data, 0))

    def _position(self, field: int) -> int:
        offsets = self.at - _read("<i", self.data, self.at)
        size = _read("<H", self.data, offsets)
        offset = _read("<H", self.data, offsets + 4 + 2 * field) if 6 + 2 * field <= size else 0
        return self.at + offset if offset else 0

    def has(self, field: int) -> bool:
        return bool(self._position(field))

    def byte(self, field: int) -> int:
        at = self._position(field)
        return _read("<B", self.data, at) if at else 0

    def long(self, field: int) -> int:
        at = self._position(field)
        return _read("<q", self.data, at) if at else 0

    def table(self, field: int) -> "_Table":
        at = self._position(field)
        return _Table(self.data, at + _read("<I", self.data, at))

    def vector(self, field: int) -> _Vector:
        at = self._position(field)
        if not at:
            return _Vector(self.data, 0, 0)
        start = at + _read("<I", self.data, at)
        return _Vector(self.data, start + 4, _read("<I", self.data, start))

    def text(self, field: int) -> str:
        start, size = self.vector(field)[1:]
        return self.data[start : start + size].decode(errors="replace")


def _read(kind: str, data: bytes, at: int) -> int:
    return int(struct.unpack_from(kind, data, at)[0])
