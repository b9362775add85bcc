"""The rows of a CSV file: every line belongs to a row or is refused, whatever the file contains."""

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.contracts.reader import parse
from processing.errors import BadInput
from processing.intake.files import check_file, read_file
from processing.intake.limits import ROW_BYTES
from processing.intake.records import Block, Records, UnreadableRows, fields

CONTRACT = parse(
    """
name = "shop"
categorical = { channel = ["chip", "online"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[[entity]]
name = "card"
column = "card_no"
windows_days = [1]
"""
)
HEADER = b"id,at,value,card_no,channel,fraud"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BLANK = re.compile(rb'(?:"")?(?:,(?:"")?)*')


def line(number: int) -> bytes:
    return b"t%d,2026-03-01T12:00:00Z,%d.5,C%d,chip,0" % (number, number, number % 3)


def read(path: Path, data: bytes) -> list[dict[str, Any]]:
    """The accepted and refused rows of a file. Raises BadInput if the whole file is refused."""
    path.write_bytes(data)
    check_file(path, CONTRACT, path.name)
    landed = [row for batch in read_file(path, CONTRACT, path.name, NOW) for row in batch.to_pylist()]
    for row in landed:
        if row["reason"] and row["reason"].startswith("unreadable"):
            raise BadInput(row["reason"])
    return landed


def records_of(data: bytes, width: int, size: int = 1 << 20) -> Block:
    """The rows of some bytes, read in pieces of `size` bytes."""
    whole = Block()
    for block in Records(width, frozenset({0})).blocks(data[i : i + size] for i in range(0, len(data), size)):
        whole.rows += block.rows
        whole.lines += block.lines
        whole.malformed += block.malformed
    return whole


def check_every_line(data: bytes, landed: list[dict[str, Any]]) -> None:
    """Check that each line that is not blank is accepted or refused exactly once."""
    lines = dict(enumerate(data.splitlines(), 1))
    first_line = 2
    numbers = [row["line"] for row in landed]
    assert len(numbers) == len(set(numbers))
    assert {number for number, text in lines.items() if number >= first_line and not BLANK.fullmatch(text)} <= set(
        numbers
    )
    assert set(numbers) <= {number for number, text in lines.items() if text}
    for row in landed:
        if not row["reason"]:  # the id is in its line
            assert row["transaction_id"].encode().replace(b'"', b"") in lines[row["line"]].replace(b'"', b"")


marks = st.sampled_from([b'"', b'""', b",", b"\n", b"\r", b"\r\n", b'",', b',"', b"\x80", b"\x00", b" "])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.tuples(marks, st.integers(0, 400)), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)
def test_no_line_is_lost_whatever_is_inserted_into_a_file(
    tmp_path_factory: pytest.TempPathFactory, rows: int, inserted: list[tuple[bytes, int]], end: bytes, final_end: bool
) -> None:
    body = end.join(line(number) for number in range(rows)) + end * final_end
    for mark, place in inserted:
        body = body[: place % (len(body) + 1)] + mark + body[place % (len(body) + 1) :]
    data = HEADER + end + body
    if end == b"\r" and body.startswith(b"\n"):
        return  # the header then ends in CR LF
    check_every_line(data, read(tmp_path_factory.getbasetemp() / "any.csv", data))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(2, 9), st.lists(st.integers(0, 500), min_size=1, max_size=4))
def test_stray_quotes_in_ignored_columns_lose_no_line(
    tmp_path_factory: pytest.TempPathFactory, rows: int, places: list[int]
) -> None:
    body = b"\n".join(line(number) + b",all is well,x" for number in range(rows)) + b"\n"
    for place in places:
        body = body[: place % (len(body) + 1)] + b'"' + body[place % (len(body) + 1) :]
    data = HEADER + b",remark,other\n" + body
    check_every_line(data, read(tmp_path_factory.getbasetemp() / "remarks.csv", data))


@pytest.mark.parametrize("opened", [b'"C1', b'"C1"x', b'x,"C1'], ids=["open", "closed within", "one more"])
def test_all_lines_within_an_unclosed_quote_are_refused(tmp_path: Path, opened: bytes) -> None:
    lines = [line(number) for number in range(20)]
    lines[12] = lines[12].replace(b"C0", opened)
    landed = read(tmp_path / "a.csv", b"\n".join([HEADER, *lines]) + b"\n")
    refused = [row for row in landed if row["reason"]]
    torn = 1 if opened == b'"C1"x' else 8
    assert len(landed) == 20
    assert [row["line"] for row in refused] == list(range(14, 14 + torn))
    assert all("a quote that opens in line 14 is" in row["reason"] for row in refused)
    assert [row["content"] for row in refused] == [text.decode() for text in lines[12 : 12 + torn]]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (b'"chip', b'"chip', "a quote that opens in line 7 is closed inside a value"),
        (b'"chip', b'chip"', "a quote that opens in line 7 spans lines up to 17"),
    ],
)
def test_all_lines_between_two_stray_quotes_are_refused(
    tmp_path: Path, first: bytes, second: bytes, reason: str
) -> None:
    lines = [line(number) for number in range(20)]
    lines[5], lines[15] = lines[5].replace(b"chip", first), lines[15].replace(b"chip", second)
    landed = read(tmp_path / "a.csv", b"\n".join([HEADER, *lines]))
    assert len(landed) == 20
    assert {row["line"]: row["reason"] for row in landed if row["reason"]} == dict.fromkeys(range(7, 18), reason)


def test_a_quote_longer_than_the_longest_row_refuses_the_file(tmp_path: Path) -> None:
    rows = ROW_BYTES // len(line(10_000)) + 9
    lines = [line(number) for number in range(rows)]
    lines[3] = lines[3].replace(b"C0", b'"C0')
    with pytest.raises(BadInput, match="unreadable: a row is longer than 1,048,576 bytes, or a quote in it is not cl"):
        read(tmp_path / "a.csv", b"\n".join([HEADER, *lines]))
    with pytest.raises(UnreadableRows, match="longer than") as caught:
        records_of(b"a,b\n" + b"x" * (ROW_BYTES + 1) + b",y\nc,d\n", 2)
    assert caught.value.line == 2


def test_quoted_values_keep_their_line_ends_and_quotes(tmp_path: Path) -> None:
    remark = b'"said ""no"",\nthen\r\nagreed"'
    data = HEADER + b",remark\n" + line(1) + b"," + remark + b"\n" + line(2) + b',5" pipe\n' + line(3) + b",\n"
    landed = read(tmp_path / "a.csv", data)
    assert [(row["line"], row["reason"]) for row in landed] == [(2, None), (5, None), (6, None)]
    assert fields(b"a," + remark + b',5" pipe\r\n') == [b"a", b'said "no",\nthen\r\nagreed', b'5" pipe']


values = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', '""', ",", 'a"b', "x\ny", "\r", "\r\n"]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(values, min_size=3, max_size=3), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 9),
)
def test_valid_csv_is_read_as_pythons_reader_does_in_pieces_of_any_size(
    rows: list[list[str]], end: str, size: int
) -> None:
    """Compared with Python's own csv module. A row with a line end may be refused, since it might be two rows."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end).writerows(rows)
    data = text.getvalue().encode()
    expected = [row for row in csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True) if any(row)]
    block = records_of(data, 3, size)
    assert block == records_of(data, 3)
    rows_read = [[value.decode() for value in fields(row)] for row in block.rows]
    plain = [row for row in expected if not any(set("\r\n") & set(value) for value in row)]
    assert [row for row in rows_read if not any(set("\r\n") & set(value) for value in row)] == plain
    assert all(row in expected for row in rows_read)
    torn = {row.line for row in block.malformed}
    assert all(line not in torn for line in block.lines)
