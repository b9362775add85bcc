"""What an Arrow stream says of itself, looked at before anything is made of it.

The heads of an Arrow stream's messages are FlatBuffers, in which many places may refer to the same bytes: a short head
can describe more columns, names and levels than there is memory. So what is made of each is bounded by numbers that
stand in the heads themselves. See Message.fbs and Schema.fbs of the Arrow format.
"""

import struct
from typing import NamedTuple

import pyarrow as pa

from serving.api.problems import shortened
from serving.batch.formats import Most, too_many

SCHEMA, DICTIONARY, RECORDS = 1, 2, 3
MOST_MESSAGES = 2_000
MOST_HEAD_BYTES = 262_144  # of one message, without its columns
MOST_NAME_BYTES = 64 << 20  # of all names and notes in a schema, if each were as long as the whole head
TAKEN = {1, 2, 3, 5, 6, 7, 8, 10, 20}  # null, int, float, utf8, bool, decimal, date, timestamp, large utf8
KINDS = {
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


def check(body: bytes, most: Most) -> None:
    """Look at every message of a stream.

    Raises TooLarge for more rows than `most` allows; ValueError for a stream that would take more than its bytes, or
    has columns that no transaction has; struct.error and pyarrow's errors for a garbled one.
    """
    rows = 0
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
        if number == MOST_MESSAGES:
            raise ValueError(f"it has more than {MOST_MESSAGES:,} messages; write more rows into one")
        head = message.metadata.to_pybytes()
        if len(head) > MOST_HEAD_BYTES:
            raise ValueError(f"the head of a message is longer than {MOST_HEAD_BYTES:,} bytes")
        root = _Table.root(head)
        kind, header = root.byte(1), root.table(2)
        if kind == SCHEMA:
            _check_schema(header, most)
        elif kind in (DICTIONARY, RECORDS):
            if kind == DICTIONARY and header.byte(2):
                raise ValueError("it adds to a dictionary that was sent before; write each dictionary whole")
            columns = header.table(1) if kind == DICTIONARY else header
            if columns.has(3):
                raise ValueError("its columns are compressed; write it without compression")
            length = columns.long(0)
            if length < 0:
                raise ValueError("a message has a negative number of rows")
            rows += length if kind == RECORDS else 0
            if rows > most.rows:
                raise too_many(most.rows)


def _check_schema(schema: "_Table", most: Most) -> None:
    if schema.byte(0):
        raise ValueError("its numbers are big-endian; write it on, or for, a little-endian machine")
    columns = schema.vector(1)
    if columns.size > most.fields:
        raise ValueError(f"it has {columns.size:,} columns; at most {most.fields} are taken, unknown ones included")
    fields = [columns.table(i) for i in range(columns.size)]
    notes = schema.vector(2).size + sum(field.vector(6).size for field in fields)
    if (len(fields) + 2 * notes) * len(schema.head) > MOST_NAME_BYTES:
        raise ValueError("its schema has more names and notes than can be read")
    for field in fields:
        kind = field.byte(2)
        if kind not in TAKEN or field.vector(5).size:
            said = KINDS.get(kind, f"number {kind}")
            raise ValueError(
                f"its column {shortened(field.text(0))!r} has the type {said}; "
                "expected numbers, texts, times or true and false"
            )


class _Vector(NamedTuple):
    """A vector of tables; the first one's place, and how many there are."""

    head: bytes
    start: int
    size: int

    def table(self, i: int) -> "_Table":
        at = self.start + 4 * i
        return _Table(self.head, at + _read("<I", self.head, at))


class _Table(NamedTuple):
    """A table of a FlatBuffer: its fields' places stand in a list of their own. One that is not there is 0."""

    head: bytes
    at: int

    @classmethod
    def root(cls, head: bytes) -> "_Table":
        return cls(head, _read("<I", head, 0))

    def _place(self, field: int) -> int:
        places = self.at - _read("<i", self.head, self.at)
        size = _read("<H", self.head, places)
        place = _read("<H", self.head, places + 4 + 2 * field) if 6 + 2 * field <= size else 0
        return self.at + place if place else 0

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def byte(self, field: int) -> int:
        at = self._place(field)
        return _read("<B", self.head, at) if at else 0

    def long(self, field: int) -> int:
        at = self._place(field)
        return _read("<q", self.head, at) if at else 0

    def table(self, field: int) -> "_Table":
        at = self._place(field)
        return _Table(self.head, at + _read("<I", self.head, at))

    def vector(self, field: int) -> _Vector:
        at = self._place(field)
        if not at:
            return _Vector(self.head, 0, 0)
        start = at + _read("<I", self.head, at)
        return _Vector(self.head, start + 4, _read("<I", self.head, start))

    def text(self, field: int) -> str:
        start, size = self.vector(field)[1:]
        return self.head[start : start + size].decode(errors="replace")


def _read(kind: str, head: bytes, at: int) -> int:
    return int(struct.unpack_from(kind, head, at)[0])
