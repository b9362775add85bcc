"""A CSV file, plain or gzipped, as raw rows in bounded memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from processing.errors import BadInput
from processing.intake.limits import COLUMNS, EXPANSION, EXPANSION_FREE, HEADER_BYTES
from processing.intake.raw_rows import RawRows, as_content
from processing.intake.records import FIELDS, Block, Records, UnreadableRows, fields

CHUNK = 1 << 20  # bytes read at a time
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvFile:
    """A file with a header line. Raises BadInput, which does not name the file, if it has none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._compression = "gzip" if path.suffix.lower() == ".gz" else None
        header, self._begin = self._read_header()
        self.names = [name.decode(errors="replace") for name in fields(header)]
        self._line = 1 + len(header.splitlines())
        if len(self.names) > COLUMNS:
            raise BadInput(f"has {len(self.names):,} columns; the limit is {COLUMNS:,}")

    def check(self, names: Sequence[str]) -> None:
        """Accept any columns: all of a CSV file's are text."""

    def raw_rows(self, names: Sequence[str]) -> Iterator[RawRows]:
        """The rows, with the named columns as bytes. Raises UnreadableRows where the file is truncated or damaged."""
        positions = [self.names.index(name) for name in names]
        records = Records(len(self.names), frozenset(positions), self._line)
        try:
            for block in records.blocks(self._chunks()):
                yield self._rows(block, dict(zip(names, positions, strict=True)))
        except (OSError, EOFError) as error:  # from the file system or gzip: it holds no value of a row
            raise UnreadableRows(records.line, str(error)) from None

    def _rows(self, block: Block, positions: dict[str, int]) -> RawRows:
        def contents(rows: Sequence[int]) -> list[str]:
            return [as_content(zip(self.names, fields(block.rows[row]), strict=True)) for row in rows]

        columns = _parsed(block, len(self.names), positions)
        return RawRows(columns, np.array(block.lines, np.int64), block.malformed, contents)

    def _read_header(self) -> tuple[bytes, int]:
        """The header with its line end, and the offset at which the rows begin."""
        try:
            with self._stream() as stream:
                start: bytes = stream.read(len(BYTE_ORDER_MARK) + HEADER_BYTES)
        except (OSError, EOFError) as error:
            raise BadInput(f"cannot be read as CSV: {error}") from None
        begin = len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0
        if not start[begin:].strip():
            raise BadInput("cannot be read as CSV: the file is empty")
        text = start if len(start) > HEADER_BYTES else start + b"\n"
        end, separator = begin, b","
        while separator == b",":
            match = FIELDS.match(text, end)
            if match is None:
                fault = f"is longer than {HEADER_BYTES:,} bytes, or has a quote that does not enclose a whole name"
                raise BadInput(f"cannot be read as CSV: its header line {fault}")
            end, separator = match.end(), match[2]
        return text[begin:end], end

    def _chunks(self) -> Iterator[bytes]:
        remaining = EXPANSION_FREE + EXPANSION * self.path.stat().st_size
        with self._stream() as stream:
            stream.read(self._begin)
            while chunk := stream.read(CHUNK):
                remaining -= len(chunk)
                if self._compression and remaining < 0:
                    raise OSError(f"it expands to more than {EXPANSION} times its size")
                yield chunk

    def _stream(self) -> Any:
        return pa.input_stream(str(self.path), compression=self._compression)


def _parsed(block: Block, width: int, positions: dict[str, int]) -> dict[str, pa.Array]:
    """The values of some columns, by a second parser. Raises UnreadableRows unless it finds the same number of rows."""
    if not block.rows:
        return dict.fromkeys(positions, pa.array([], pa.binary()))
    data = b"".join(block.rows)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[str(position) for position in range(width)]
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={str(position): pa.binary() for position in positions.values()},
                include_columns=[str(position) for position in positions.values()],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:  # its text may hold values of rows
        table = pa.table({})
    if len(table) != len(block.rows):
        raise UnreadableRows(
            block.lines[0], f"{len(block.rows):,} rows from here on were parsed as {len(table):,}; is it CSV?"
        )
    return {name: table[str(position)].combine_chunks() for name, position in positions.items()}
