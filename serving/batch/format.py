"""What a batch format does: it reads the rows of a request and writes the rows of the response.

Rows stay as they arrived and become objects one by one as they are decided, so a batch takes little more memory than
its bytes, whatever they contain.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serving.api.problems import TooLarge


@dataclass(frozen=True)
class BatchLimits:
    """Limits for one batch. `work` is in bytes of columns, where bytes that several columns share count for each."""

    rows: int
    row_bytes: int
    fields: int
    work: int


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be read, although its neighbours can. `status` is the one it would get on its own."""

    message: str
    status: int = 422


Row = bytes | dict[str, Any] | UnreadableRow  # JSON, or values by column


class RowWriter(ABC):
    """Writes one response, part by part."""

    @abstractmethod
    def write(self, rows: Sequence[BaseModel]) -> bytes:
        """The part of the response for the next rows."""

    @abstractmethod
    def end(self) -> bytes:
        """The end of the response, after the last row."""


class BatchFormat(ABC):
    """A format for batches and their responses."""

    media_type: str

    @abstractmethod
    def read(self, body: bytes, limits: BatchLimits) -> Collection[Row]:
        """The rows of a body. Raises TooLarge beyond the limits, and MalformedRequest."""

    @abstractmethod
    def writer(self) -> RowWriter:
        """A writer for one response."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The format's schema for OpenAPI."""


def too_many_rows(limit: int) -> TooLarge:
    """The error for a batch with more rows than the limit."""
    return TooLarge(f"the batch has more than {limit:,} rows; split it (or raise FRAUDLINE_BATCH_ROWS)")


def row_too_long(limit: int) -> UnreadableRow:
    """A row that exceeds the limit, in bytes."""
    return UnreadableRow(f"the row exceeds the limit of {limit:,} bytes for a transaction", 413)
