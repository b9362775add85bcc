"""The forms of a batch: a JSON array, NDJSON, an Arrow stream (see `serving.batch_arrow`). The answer has the same."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serving.problems import TooLarge, UnknownMediaType, Unreadable

BLANK = " \t\r\n"
ARROW = "application/vnd.apache.arrow.stream"
DEPTH = "nested too deep"


@dataclass(frozen=True)
class Garbled:
    """A row that cannot be read, while those around it can."""

    message: str


Row = Any  # what a row was read as, to be validated; or Garbled


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
    def read(self, body: bytes, most: int) -> list[Row]:
        """The rows of a body. Raises TooLarge for more than `most`, and Unreadable."""

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


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 text: byte {error.start} cannot be read") from None


class _Json(Format):
    media_type = "application/json"

    def read(self, body: bytes, most: int) -> list[Row]:
        rows: list[Row] = []
        for row in _elements(_text(body)):
            if len(rows) == most:
                raise too_many(most)
            rows.append(row)
        return rows

    def writer(self) -> Writer:
        return _JsonWriter()

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"$ref": "#/components/schemas/Transaction"}}


def _elements(text: str) -> Iterator[Any]:
    """The elements of a JSON array one by one: to parse it at once would keep the interpreter from all else."""
    scan = json.JSONDecoder().raw_decode
    at = _past_blanks(text, 0)
    if text[at : at + 1] != "[":
        raise Unreadable("expected a JSON array of transactions as the body")
    at = _past_blanks(text, at + 1)
    closes = text[at : at + 1] == "]"
    while not closes:
        try:
            element, at = scan(text, at)
        except json.JSONDecodeError as error:
            raise _not_json(error.msg, error.pos) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
            raise _not_json(DEPTH if isinstance(error, RecursionError) else str(error), at) from None
        yield element
        at = _past_blanks(text, at)
        closes = text[at : at + 1] == "]"
        if not closes:
            if text[at : at + 1] != ",":
                raise _not_json("expected ',' or ']'", at)
            at = _past_blanks(text, at + 1)
    at = _past_blanks(text, at + 1)
    if at < len(text):
        raise _not_json("extra data", at)


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANK:
        at += 1
    return at


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

    def read(self, body: bytes, most: int) -> list[Row]:
        rows: list[Row] = []
        for line in _lines(body):
            if line.strip():
                if len(rows) == most:
                    raise too_many(most)
                rows.append(_row(line))
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


def _row(line: bytes) -> Row:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        return Garbled(f"the line is not valid JSON: {error.msg} at character {error.pos}")
    except UnicodeDecodeError:
        return Garbled("the line is not UTF-8 text")
    except (ValueError, RecursionError) as error:
        return Garbled(f"the line is not valid JSON: {DEPTH if isinstance(error, RecursionError) else error}")


class _NdjsonWriter(Writer):
    def write(self, answers: Sequence[BaseModel]) -> bytes:
        return b"".join(answer.model_dump_json().encode() + b"\n" for answer in answers)

    def end(self) -> bytes:
        return b""


class _Arrow(Format):
    media_type = ARROW

    def read(self, body: bytes, most: int) -> list[Row]:
        from serving.batch_arrow import read  # brings PyArrow: memory that only who uses it should take

        return read(body, most)

    def writer(self) -> Writer:
        from serving.batch_arrow import ArrowWriter

        return ArrowWriter()

    def schema(self) -> dict[str, Any]:
        words = "An Arrow IPC stream, not compressed, with the fields of the JSON array's objects as columns"
        return {"type": "string", "format": "binary", "description": words}


FORMATS: dict[str, Format] = {form.media_type: form for form in (_Json(), _Ndjson(), _Arrow())}
