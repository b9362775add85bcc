"""Which format a batch has, by its content type."""

from collections.abc import Collection
from typing import Any

from serving.api.problems import UnknownMediaType
from serving.batch.format import BatchFormat, BatchLimits, Row, RowWriter
from serving.batch.json_array import JsonArray
from serving.batch.ndjson import Ndjson

ARROW = "application/vnd.apache.arrow.stream"


class ArrowStream(BatchFormat):
    """An Arrow IPC stream, see `serving.batch.arrow`. It imports PyArrow when it is first used, to save memory."""

    media_type = ARROW

    def read(self, body: bytes, limits: BatchLimits) -> Collection[Row]:
        from serving.batch.arrow import read_stream

        return read_stream(body, limits)

    def writer(self) -> RowWriter:
        from serving.batch.arrow import ArrowWriter

        return ArrowWriter()

    def schema(self) -> dict[str, Any]:
        description = "An uncompressed Arrow IPC stream, whose columns are the fields of the JSON array's objects"
        return {"type": "string", "format": "binary", "description": description}


FORMATS: dict[str, BatchFormat] = {each.media_type: each for each in (JsonArray(), Ndjson(), ArrowStream())}


def format_of(content_type: str) -> BatchFormat:
    """The format for a content type. Raises UnknownMediaType."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in FORMATS:
        raise UnknownMediaType(f"the Content-Type is {content_type!r}; send a batch as {' or '.join(FORMATS)}")
    return FORMATS[media_type]
