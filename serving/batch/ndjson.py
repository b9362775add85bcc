"""A batch as newline-delimited JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from serving.api.problems import TooLarge
from serving.batch.format import BatchFormat, BatchLimits, Row, RowWriter, row_too_long, too_many_rows

BOM = b"\xef\xbb\xbf"


class Ndjson(BatchFormat):
    """Each line that is not blank is a row."""

    media_type = "application/x-ndjson"

    def read(self, body: bytes, limits: BatchLimits) -> list[Row]:
        rows: list[Row] = []
        blank = 0
        for line in _lines(body):
            row = line.strip().removeprefix(BOM)
            if row and len(rows) == limits.rows:
                raise too_many_rows(limits.rows)
            blank += not row
            if blank > limits.rows:
                raise TooLarge(f"the batch has more than {limits.rows:,} blank lines")
            if row:
                rows.append(row if len(row) <= limits.row_bytes else row_too_long(limits.row_bytes))
        return rows

    def writer(self) -> RowWriter:
        return NdjsonWriter()

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "description": "One line for each row: an object as in the JSON array"}


class NdjsonWriter(RowWriter):
    """Writes a line for each row."""

    def write(self, rows: Sequence[BaseModel]) -> bytes:
        return b"".join(row.model_dump_json().encode() + b"\n" for row in rows)

    def end(self) -> bytes:
        return b""


def _lines(body: bytes) -> Iterator[bytes]:
    """The lines, split at newlines only; `splitlines` would also split at characters that JSON texts may contain."""
    at = 0
    while at < len(body):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        yield body[at:end]
        at = end + 1
