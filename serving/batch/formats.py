"""The forms of a batch: a JSON array, NDJSON, an Arrow stream (see `serving.batch.arrow`). The answer has the same.

Rows are kept as they came and made into objects one by one as they are decided, so that a batch takes little more
memory than its bytes, whatever they say.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serving.api.problems import TooLarge, UnknownMediaType, Unreadable

IN_NUMBERS = "0123456789.eE+-"
BLANKS = re.compile(r"[ \t\r\n]*")
BOM = b"\xef\xbb\xbf"
SLACK = 16  # characters before the end of a cut text in which an error may be due to the cut
ARROW = "application/vnd.apache.arrow.stream"
DEPTH = "nested too deep"
SCAN = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class Most:
    """What a batch may have at most. `work` is in bytes: of columns, each counted as often as it is gone over."""

    rows: int
    row_bytes: int
    fields: int
    work: int


@dataclass(frozen=True)
class Garbled:
    """A row that cannot be read, while those around it can; `status` as if it had come by itself."""

    message: str
    status: int = 422


Row = bytes | dict[str, Any] | Garbled  # its JSON, or its values by column


class Writer(ABC):
    """An answer under way."""

    @abstractmethod
    def write(self, answers: Sequence[BaseModel]) -> bytes:
        """The next rows' part of the answer."""

    @abstractmethod
    def end(self) -> bytes:
        """What is still missing after the last row."""


class Format(ABC):
    """A form of a batch and of its answer."""

    media_type: str

    @abstractmethod
    def read(self, body: bytes, most: Most) -> Collection[Row]:
        """The rows of a body. Raises TooLarge for more than `most` allows, and Unreadable."""

    @abstractmethod
    def writer(self) -> Writer:
        """A writer for one answer."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The form's schema for OpenAPI."""


def format_of(content_type: str) -> Format:
    """The form that a content type says. Raises UnknownMediaType."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in FORMATS:
        known = ", ".join(FORMATS)
        raise UnknownMediaType(f"the body's Content-Type is {content_type!r}; send a batch as one of {known}")
    return FORMATS[kind]


def too_many(most: int) -> TooLarge:
    return TooLarge(f"the batch has more than {most:,} rows; send it in parts (or raise FRAUDLINE_BATCH_ROWS)")


def too_long(most: int) -> Garbled:
    return Garbled(f"the row is longer than the {most:,} bytes that a transaction may have", 413)


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 text: byte {error.start} cannot be read") from None


class _Json(Format):
    media_type = "application/json"

    def read(self, body: bytes, most: Most) -> list[Row]:
        rows: list[Row] = []
        for row in _elements(_text(body), most.row_bytes):
            if len(rows) == most.rows:
                raise too_many(most.rows)
            rows.append(row)
        return rows

    def writer(self) -> Writer:
        return _JsonWriter()

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"$ref": "#/components/schemas/Transaction"}}


def _elements(text: str, most: int) -> Iterator[bytes | Garbled]:
    """The elements of a JSON array one by one, as JSON: to parse it at once would keep the interpreter from all else.

    None is parsed beyond `most` characters. Raises TooLarge for a longer one: where it ends is not looked for.
    """
    at = _past_blanks(text, 0)
    if text[at : at + 1] != "[":
        raise Unreadable("expected a JSON array of transactions as the body")
    at = _past_blanks(text, at + 1)
    closes = text[at : at + 1] == "]"
    while not closes:
        end = at + _length(text[at : at + most], at, cut=at + most < len(text))
        row = text[at:end].encode()
        yield row if len(row) <= most else too_long(most)
        at = _past_blanks(text, end)
        closes = text[at : at + 1] == "]"
        if not closes:
            if text[at : at + 1] != ",":
                raise _not_json("expected ',' or ']'", at)
            at = _past_blanks(text, at + 1)
    at = _past_blanks(text, at + 1)
    if at < len(text):
        raise _not_json("extra data", at)


def _length(text: str, at: int, *, cut: bool) -> int:
    """How long the JSON value is that a text begins with. `at` is the text's place in the body."""
    try:
        end: int = SCAN(text)[1]
        if not cut or text[end:].strip(IN_NUMBERS):  # else it may be a number of which the rest was cut off
            return end
    except json.JSONDecodeError as error:
        if not cut or (error.pos < len(text) - SLACK and not error.msg.startswith("Unterminated string")):
            raise _not_json(error.msg, at + error.pos) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise _not_json(DEPTH if isinstance(error, RecursionError) else str(error), at) from None
    raise TooLarge(f"the row at character {at} is longer than the {len(text):,} that a transaction may have")


def _past_blanks(text: str, at: int) -> int:
    found = BLANKS.match(text, at)
    assert found is not None  # it may be empty
    return found.end()


def _not_json(why: str, at: int) -> Unreadable:
    return Unreadable(f"the body is not valid JSON: {why} at character {at}")


class _JsonWriter(Writer):
    def __init__(self) -> None:
        self._before = b"["

    def write(self, answers: Sequence[BaseModel]) -> bytes:
        part = self._before + b",".join(answer.model_dump_json().encode() for answer in answers)
        self._before = b","
        return part

    def end(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"


class _Ndjson(Format):
    media_type = "application/x-ndjson"

    def read(self, body: bytes, most: Most) -> list[Row]:
        rows: list[Row] = []
        blank = 0
        for line in _lines(body):
            row = line.strip().removeprefix(BOM)
            if row and len(rows) == most.rows:
                raise too_many(most.rows)
            blank += not row
            if blank > most.rows:
                raise TooLarge(f"the batch has more than {most.rows:,} blank lines")
            if row:
                rows.append(row if len(row) <= most.row_bytes else too_long(most.row_bytes))
        return rows

    def writer(self) -> Writer:
        return _NdjsonWriter()

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "description": "A line for each row: an object as in the JSON array"}


def _lines(body: bytes) -> Iterator[bytes]:
    """The lines, none of them split at what JSON texts may hold (as `splitlines` would)."""
    at = 0
    while at < len(body):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        yield body[at:end]
        at = end + 1


class _NdjsonWriter(Writer):
    def write(self, answers: Sequence[BaseModel]) -> bytes:
        return b"".join(answer.model_dump_json().encode() + b"\n" for answer in answers)

    def end(self) -> bytes:
        return b""


class _Arrow(Format):
    media_type = ARROW

    def read(self, body: bytes, most: Most) -> Collection[Row]:
        from serving.batch.arrow import read  # brings PyArrow: memory that only who uses it should take

        return read(body, most)

    def writer(self) -> Writer:
        from serving.batch.arrow import ArrowWriter

        return ArrowWriter()

    def schema(self) -> dict[str, Any]:
        words = "An Arrow IPC stream, not compressed, with the fields of the JSON array's objects as columns"
        return {"type": "string", "format": "binary", "description": words}


FORMATS: dict[str, Format] = {form.media_type: form for form in (_Json(), _Ndjson(), _Arrow())}
