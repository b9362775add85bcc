"""The rows of a CSV file, found in its bytes by the rules of RFC 4180.

A quote opens a value only at the value's start, and closes it only before a comma or a line end; inside, it is doubled.
In a value without quotes around it, a quote is an ordinary character.

Every non-blank line is either part of a row or malformed: no quote hides the lines after it. A quote that is never
closed, or is closed inside a value, makes every line it spans malformed. So does one that spans line ends probably by
mistake: in a column that the contract names, or around a line with as many commas as a row has.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from processing.intake.limits import ROW_BYTES

FIELD = rb'(?:"(?:[^"]++|"")*+"|[^",\r\n][^,\r\n]*+|)'
END = rb"(?:\r?\n|\r)"
FIELDS = re.compile(rb"(" + FIELD + rb")(,|" + END + rb")")
OPENING = re.compile(rb'(?:%s,)*+"(?:[^"]++|"")*+' % FIELD)  # a value in quotes, up to its closing quote
LINE = re.compile(rb"[^\r\n]*+(?:%s|\Z)" % END)
PLAIN, BLANK, ROW, WRONG_WIDTH, UNCLOSED = 1, 2, 3, 4, 5  # the groups of a pattern


class UnreadableRows(Exception):
    """A file cannot be read from a line on. Text and line hold no value of a row: they may be shown."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True)
class MalformedLine:
    """A line that is not a row: its number, why, and its bytes."""

    line: int
    reason: str
    raw: bytes


@dataclass
class Block:
    """Rows in file order, each with its line end; the line in which each begins; the malformed lines among them."""

    rows: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    malformed: list[MalformedLine] = field(default_factory=list)


class Records:
    """Reads a file's bytes as rows of `width` values, each on a line of its own.

    guarded: positions of the columns whose values have no line ends
    """

    def __init__(self, width: int, guarded: frozenset[int], line: int = 1) -> None:
        self.width, self.guarded, self.line = width, guarded, line
        self._pattern = _pattern(width)

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block]:
        """The rows, chunk by chunk. Raises UnreadableRows for a row longer than ROW_BYTES."""
        rest = b""
        for chunk in chunks:
            data = rest + chunk
            cut = len(data) - data.endswith(b"\r")  # a line feed may follow
            block, rest = self._read(data[:cut], last=False)
            rest += data[cut:]
            yield block
        if rest:
            block, _ = self._read(rest if rest.endswith((b"\n", b"\r")) else rest + b"\n", last=True)
            yield block

    def _read(self, data: bytes, last: bool) -> tuple[Block, bytes]:
        """The rows in the data, and the incomplete rest."""
        block, position = Block(), 0
        while position < len(data):
            position = self._read_rows(block, data, position)
            if position == len(data):
                break
            end = self._end_of_unclosed(data, position)
            if (end or len(data)) - position > ROW_BYTES:
                raise UnreadableRows(
                    self.line, f"a row is longer than {ROW_BYTES:,} bytes, or a quote in it is not closed"
                )
            if end is None and not last:
                return block, data[position:]
            fault = "is closed inside a value" if end else "is never closed"
            self._add_malformed(block, data[position:end], f"a quote that opens in line {self.line} {fault}")
            position = end or len(data)
        return block, b""

    def _read_rows(self, block: Block, data: bytes, position: int) -> int:
        """Read up to the first quote that is not closed properly; its row's position, or the data's end."""
        for match in self._pattern.finditer(data, position):
            kind, raw = match.lastindex, match.group()
            if kind == PLAIN:
                rows = raw.splitlines(keepends=True)
                self._check_lengths(rows)
                block.rows += rows
                block.lines += range(self.line, self.line + len(rows))
                self.line += len(rows)
                continue
            if kind == UNCLOSED:
                return match.start()
            ends = _line_ends(raw)
            if kind != BLANK:
                self._check_lengths([raw])
            if kind == ROW and (ends == 1 or not self._suspect(raw)):
                block.rows.append(raw)
                block.lines.append(self.line)
            elif kind == ROW:
                last = self.line + ends - 1
                self._add_malformed(block, raw, f"a quote that opens in line {self.line} spans lines up to {last}")
                continue
            elif kind == WRONG_WIDTH:
                self._add_malformed(block, raw, "wrong number of fields")
                continue
            self.line += ends
        return len(data)

    def _check_lengths(self, rows: list[bytes]) -> None:
        for i, row in enumerate(rows):
            if len(row) > ROW_BYTES:
                raise UnreadableRows(self.line + i, f"a row is longer than {ROW_BYTES:,} bytes")

    def _end_of_unclosed(self, data: bytes, position: int) -> int | None:
        """The end of the line in which a quote is closed inside a value; None if the data does not reach that far."""
        opening = OPENING.match(data, position)
        if opening is None or opening.end() + 1 >= len(data):  # the last quote may be the first of two
            return None
        line = LINE.match(data, opening.end())
        return line.end() if line and line.group().endswith((b"\n", b"\r")) else None

    def _suspect(self, raw: bytes) -> bool:
        """Whether the line ends inside a row's values are probably a mistake."""
        if any(part.count(b",") == self.width - 1 for part in raw.splitlines()):
            return True
        values = fields(raw)
        return any(b"\n" in values[i] or b"\r" in values[i] for i in self.guarded)

    def _add_malformed(self, block: Block, raw: bytes, reason: str) -> None:
        for text in raw.splitlines():
            if text:
                block.malformed.append(MalformedLine(self.line, reason, text))
            self.line += 1


def _line_ends(raw: bytes) -> int:
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def fields(row: bytes) -> list[bytes]:
    """The values of a row, without their quotes. The row ends with a line end."""
    return [_unquoted(match[1]) for match in FIELDS.finditer(row)]


def _unquoted(value: bytes) -> bytes:
    return value[1:-1].replace(b'""', b'"') if value.startswith(b'"') else value


@cache
def _pattern(width: int) -> re.Pattern[bytes]:
    """Matches, where a row may begin: rows without quotes, blank lines, a row, one of another width, or nothing."""
    value = rb'[^",\r\n]*+'
    plain = rb"(?:(?!,*+[\r\n])" + value + rb"(?:,%s){%d}" % (value, width - 1) + END + rb")++"
    blank = rb'(?:(?:"")?+(?:,(?:"")?+)*+%s)++' % END
    row = FIELD + rb"(?:,%s){%d}" % (FIELD, width - 1) + END
    wrong_width = FIELD + rb"(?:,%s)*+" % FIELD + END
    return re.compile(rb"(%s)|(%s)|(%s)|(%s)|()" % (plain, blank, row, wrong_width))
