"""A CSV file, or one compressed with gzip, as raw rows in bounded memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from processing.errors import BadInput
from processing.intake.limits import COLUMNS, EXPANSION, EXPANSION_FREE, HEADER_BYTES
from processing.intake.raw_rows import RawRows, as_content
from processing.intake.records import FIELDS, Block, Records, Unreadable, fields

CHUNK = 1 << 20  # bytes that are read at a time
MARK = b"\xef\xbb\xbf"  # some tools begin UTF-8 with it


class CsvFile:
    """A file with a header line. Raises BadInput, without the file's name, for one that has none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._compression = "gzip" if path.suffix.lower() == ".gz" else None
        header, self._begin = self._read_header()
        self.names = [name.decode(errors="replace") for name in fields(header)]
        self._line = 1 + len(header.splitlines())
        if len(self.names) > COLUMNS:
            raise BadInput(f"has {len(self.names):,} columns; at most {COLUMNS:,} are read")

    def check(self, wanted: Sequence[str]) -> None:
        """A text file's columns are all text: each can be read."""

    def raw_rows(self, wanted: Sequence[str]) -> Iterator[RawRows]:
        """The rows, as columns of bytes. Raises Unreadable from the line on where the file is truncated or damaged."""
        places = [self.names.index(name) for name in wanted]
        records = Records(len(self.names), frozenset(places), self._line)
        try:
            for block in records.blocks(self._chunks()):
                yield self._rows(block, dict(zip(wanted, places, strict=True)))
        except (OSError, EOFError) as error:  # of the file system or of gzip: no value of a row is in it
            raise Unreadable(records.line, str(error)) from None

    def _rows(self, block: Block, places: dict[str, int]) -> RawRows:
        def contents(rows: Sequence[int]) -> list[str]:
            return [as_content(zip(self.names, fields(block.rows[row]), strict=True)) for row in rows]

        columns = _parsed(block, len(self.names), places)
        return RawRows(columns, np.array(block.lines, np.int64), block.torn, contents)

    def _read_header(self) -> tuple[bytes, int]:
        """The header with its line end, and the place in the text where the rows begin."""
        try:
            with self._stream() as stream:
                start: bytes = stream.read(len(MARK) + HEADER_BYTES)
        except (OSError, EOFError) as error:
            raise BadInput(f"cannot be read as CSV: {error}") from None
        begin = len(MARK) if start.startswith(MARK) else 0
        if not start[begin:].strip():
            raise BadInput("cannot be read as CSV: the file is empty")
        text = start if len(start) > HEADER_BYTES else start + b"\n"
        end, separator = begin, b","
        while separator == b",":
            match = FIELDS.match(text, end)
            if match is None:
                why = f"is longer than {HEADER_BYTES:,} bytes, or a quote in it does not enclose a whole name"
                raise BadInput(f"cannot be read as CSV: its header line {why}")
            end, separator = match.end(), match[2]
        return text[begin:end], end

    def _chunks(self) -> Iterator[bytes]:
        left = EXPANSION_FREE + EXPANSION * self.path.stat().st_size
        with self._stream() as stream:
            stream.read(self._begin)
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                if self._compression and left < 0:
                    raise OSError(f"its text is more than {EXPANSION} times as long as the file")
                yield chunk

    def _stream(self) -> Any:
        return pa.input_stream(str(self.path), compression=self._compression)


def _parsed(block: Block, width: int, places: dict[str, int]) -> dict[str, pa.Array]:
    """The values of some columns. Raises Unreadable unless a second reader finds the same number of rows."""
    if not block.rows:
        return dict.fromkeys(places, pa.array([], pa.binary()))
    data = b"".join(block.rows)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[str(place) for place in range(width)]
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={str(place): pa.binary() for place in places.values()},
                include_columns=[str(place) for place in places.values()],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:  # its text may hold values of the rows
        table = pa.table({})
    if len(table) != len(block.rows):
        raise Unreadable(
            block.lines[0], f"{len(block.rows):,} rows from here on were parsed as {len(table):,}; is it CSV?"
        )
    return {name: table[str(place)].combine_chunks() for name, place in places.items()}
