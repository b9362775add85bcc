"""A batch as a JSON array of transactions."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from serving.api.problems import MalformedRequest, TooLarge
from serving.batch.format import BatchFormat, BatchLimits, Row, RowWriter, UnreadableRow, row_too_long, too_many_rows

NUMBER_CHARACTERS = "0123456789.eE+-"
WHITESPACE = re.compile(r"[ \t\r\n]*")
SLACK = 16  # an error this close to the end of a truncated text may be due to the truncation
TOO_DEEP = "nested too deep"
SCAN = json.JSONDecoder().raw_decode


class JsonArray(BatchFormat):
    """Each element is a row."""

    media_type = "application/json"

    def read(self, body: bytes, limits: BatchLimits) -> list[Row]:
        rows: list[Row] = []
        for row in _elements(_decode(body), limits.row_bytes):
            if len(rows) == limits.rows:
                raise too_many_rows(limits.rows)
            rows.append(row)
        return rows

    def writer(self) -> RowWriter:
        return JsonArrayWriter()

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"$ref": "#/components/schemas/Transaction"}}


class JsonArrayWriter(RowWriter):
    """Writes an array with an element for each row."""

    def __init__(self) -> None:
        self._separator = b"["

    def write(self, rows: Sequence[BaseModel]) -> bytes:
        part = self._separator + b",".join(row.model_dump_json().encode() for row in rows)
        self._separator = b","
        return part

    def end(self) -> bytes:
        return b"[]" if self._separator == b"[" else b"]"


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not UTF-8 text: byte {error.start} is invalid") from None


def _elements(text: str, limit: int) -> Iterator[bytes | UnreadableRow]:
    """The elements of a JSON array as JSON, one by one: parsing the array at once would block the interpreter.

    No element is parsed beyond `limit` characters. Raises TooLarge for a longer one, without looking for its end.
    """
    at = _skip_whitespace(text, 0)
    if text[at : at + 1] != "[":
        raise MalformedRequest("expected a JSON array of transactions as the body")
    at = _skip_whitespace(text, at + 1)
    closed = text[at : at + 1] == "]"
    while not closed:
        end = at + _length(text[at : at + limit], at, truncated=at + limit < len(text))
        row = text[at:end].encode()
        yield row if len(row) <= limit else row_too_long(limit)
        at = _skip_whitespace(text, end)
        closed = text[at : at + 1] == "]"
        if not closed:
            if text[at : at + 1] != ",":
                raise _invalid("expected ',' or ']'", at)
            at = _skip_whitespace(text, at + 1)
    at = _skip_whitespace(text, at + 1)
    if at < len(text):
        raise _invalid("extra data", at)


def _length(text: str, at: int, *, truncated: bool) -> int:
    """The length of the JSON value at the start of a text. `at` is the text's position in the body."""
    try:
        end: int = SCAN(text)[1]
        if not truncated or text[end:].strip(NUMBER_CHARACTERS):  # otherwise the rest of a number may be missing
            return end
    except json.JSONDecodeError as error:
        if not truncated or (error.pos < len(text) - SLACK and not error.msg.startswith("Unterminated string")):
            raise _invalid(error.msg, at + error.pos) from None
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or thousands of brackets
        raise _invalid(TOO_DEEP if isinstance(error, RecursionError) else str(error), at) from None
    raise TooLarge(f"the row at character {at} exceeds the limit of {len(text):,} characters for a transaction")


def _skip_whitespace(text: str, at: int) -> int:
    match = WHITESPACE.match(text, at)
    assert match is not None  # it matches the empty text too
    return match.end()


def _invalid(why: str, at: int) -> MalformedRequest:
    return MalformedRequest(f"the body is not valid JSON: {why} at character {at}")
