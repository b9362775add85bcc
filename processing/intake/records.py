"""The rows of a CSV file, found in its bytes by the rules of RFC 4180.

A quote opens a value only at the value's start, and closes it only before a comma or a line end; within, it stands
twice. In a value without quotes around it a quote is a character like any other.

Every line of a file that is not blank is in a row, or torn: no quote takes in what follows it unseen. A quote that is
never closed, or closed where no value ends, tears all lines that it takes in. So does one that takes in line ends and
may therefore stand there by mistake: within a column that the contract names, or around a line with as many commas as
a row of its own has.
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
PLAIN, BLANK, ROW, TORN, BROKEN = 1, 2, 3, 4, 5  # the groups of a pattern


class Unreadable(Exception):
    """From a line on, a file cannot be told apart into rows. Text and line are fit for a message."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True)
class Torn:
    """A line that is no row: where, why, and what stands there."""

    line: int
    reason: str
    raw: bytes


@dataclass
class Block:
    """Rows in the order of the file, each with its line end; the line in which each begins; what is torn among them."""

    rows: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    torn: list[Torn] = field(default_factory=list)


class Records:
    """Reads a file's bytes as rows of `width` values, each in a line of its own.

    guarded: places of the columns whose values have no line ends
    """

    def __init__(self, width: int, guarded: frozenset[int], line: int = 1) -> None:
        self.width, self.guarded, self.line = width, guarded, line
        self._pattern = _pattern(width)

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block]:
        """The rows, chunk by chunk. Raises Unreadable for a row longer than ROW_BYTES."""
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
        """The rows in the data, and what is left for more data to complete."""
        block, place = Block(), 0
        while place < len(data):
            place = self._take(block, data, place)
            if place == len(data):
                break
            end = self._end_of_broken(data, place)
            if (end or len(data)) - place > ROW_BYTES:
                raise Unreadable(self.line, f"a row is longer than {ROW_BYTES:,} bytes, or a quote in it is not closed")
            if end is None and not last:
                return block, data[place:]
            where = "is closed where no value ends" if end else "is never closed"
            self._tear(block, data[place:end], f"a quote that opens in line {self.line} {where}")
            place = end or len(data)
        return block, b""

    def _take(self, block: Block, data: bytes, place: int) -> int:
        """Take what can be told apart; the place of what cannot."""
        for match in self._pattern.finditer(data, place):
            kind, raw = match.lastindex, match.group()
            if kind == PLAIN:
                rows = raw.splitlines(keepends=True)
                self._check_lengths(rows)
                block.rows += rows
                block.lines += range(self.line, self.line + len(rows))
                self.line += len(rows)
                continue
            if kind == BROKEN:
                return match.start()
            ends = _line_ends(raw)
            if kind != BLANK:
                self._check_lengths([raw])
            if kind == ROW and (ends == 1 or not self._suspect(raw)):
                block.rows.append(raw)
                block.lines.append(self.line)
            elif kind == ROW:
                last = self.line + ends - 1
                self._tear(block, raw, f"a quote that opens in line {self.line} takes in lines up to {last}")
                continue
            elif kind == TORN:
                self._tear(block, raw, "wrong number of fields")
                continue
            self.line += ends
        return len(data)

    def _check_lengths(self, rows: list[bytes]) -> None:
        for place, row in enumerate(rows):
            if len(row) > ROW_BYTES:
                raise Unreadable(self.line + place, f"a row is longer than {ROW_BYTES:,} bytes")

    def _end_of_broken(self, data: bytes, place: int) -> int | None:
        """The end of the line in which a quote is closed wrongly; None if neither is to be seen."""
        opening = OPENING.match(data, place)
        if opening is None or opening.end() + 1 >= len(data):  # the last quote may be the first of two
            return None
        line = LINE.match(data, opening.end())
        return line.end() if line and line.group().endswith((b"\n", b"\r")) else None

    def _suspect(self, raw: bytes) -> bool:
        """Whether the line ends in a row's values may be there by mistake."""
        if any(part.count(b",") == self.width - 1 for part in raw.splitlines()):
            return True
        values = fields(raw)
        return any(b"\n" in values[place] or b"\r" in values[place] for place in self.guarded)

    def _tear(self, block: Block, raw: bytes, reason: str) -> None:
        for text in raw.splitlines():
            if text:
                block.torn.append(Torn(self.line, reason, text))
            self.line += 1


def _line_ends(raw: bytes) -> int:
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def fields(row: bytes) -> list[bytes]:
    """The values of a row, without their quotes. The row ends in a line end."""
    return [_plain(match[1]) for match in FIELDS.finditer(row)]


def _plain(value: bytes) -> bytes:
    return value[1:-1].replace(b'""', b'"') if value.startswith(b'"') else value


@cache
def _pattern(width: int) -> re.Pattern[bytes]:
    """Matches, wherever a row may begin: rows without quotes, blank lines, a row, a torn one, or none of these."""
    value = rb'[^",\r\n]*+'
    plain = rb"(?:(?!,*+[\r\n])" + value + rb"(?:,%s){%d}" % (value, width - 1) + END + rb")++"
    blank = rb'(?:(?:"")?+(?:,(?:"")?+)*+%s)++' % END
    row = FIELD + rb"(?:,%s){%d}" % (FIELD, width - 1) + END
    torn = FIELD + rb"(?:,%s)*+" % FIELD + END
    return re.compile(rb"(%s)|(%s)|(%s)|(%s)|()" % (plain, blank, row, torn))
