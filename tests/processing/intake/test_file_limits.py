"""Small files that expand to much are refused, or read in bounded memory. Each attack runs in its own process."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.intake.limits import COLUMNS, EXPANSION, HEADER_BYTES

HEADER = "transaction_id,event_time,amount,customer_id,terminal_id,channel,is_fraud"
GROWTH = 1800  # MiB: an allocator's first gigabyte, what reading may add, and some room; the attacks need more
READ = """
import json, sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
import pyarrow as pa
from processing.contracts.reader import load
from processing.errors import BadInput
from processing.intake.files import check_file, read_file

def largest():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024

path, contract, reasons, before = Path(sys.argv[1]), load("transactions"), Counter(), largest()
try:
    check_file(path, contract, path.name)
    for batch in read_file(path, contract, path.name, datetime.now(UTC)):
        reasons.update(batch["reason"].to_pylist())
except BadInput as error:
    reasons[str(error)] += 1
print(json.dumps([[[reason or "", count] for reason, count in reasons.items()], largest() - before]))
"""


def columns(rows: int, **others: pa.Array) -> pa.Table:
    values = ["t", "2026-03-01T00:00:00Z", "1.0", "C1", "T1", "chip", "0"]
    plain = {
        name: pa.array([value]).take(pa.array([0] * rows))
        for name, value in zip(HEADER.split(","), values, strict=True)
    }
    return pa.table(plain | others)


def repeated(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))


def dictionary(path: Path) -> None:
    """One long id, to which all rows refer by number: 2.3 GB."""
    pq.write_table(columns(32_768, customer_id=repeated("C" * 70_000, 32_768)), path, compression="zstd")


def ignored_column(path: Path) -> None:
    """The same in a column outside the contract; refused rows keep it as part of their content."""
    others = {"remark": repeated("R" * 70_000, 32_768), "amount": repeated("none", 32_768)}
    pq.write_table(columns(32_768, **others), path, compression="zstd")


def pages(path: Path) -> None:
    """Many long ids in one row group that compresses well: 2.5 GB."""
    ids = pa.chunked_array([pa.array(["C" * 500_000 + str(i) for i in range(50)])] * 100)
    pq.write_table(columns(5_000, customer_id=ids), path, compression="zstd", use_dictionary=False)


def delta(path: Path) -> None:
    """Ids with a long common prefix, which one of Parquet's encodings stores in a few bytes each."""
    ids = pa.array(["C" * 100_000 + str(i) for i in range(10_000)])
    encoding = {"customer_id": "DELTA_BYTE_ARRAY"}
    pq.write_table(
        columns(10_000, customer_id=ids), path, compression="zstd", use_dictionary=False, column_encoding=encoding
    )


def nulls(path: Path) -> None:
    rows = 20_000_000
    table = pa.table(
        [pa.nulls(rows, pa.int32())] * 7, schema=pa.schema([(name, pa.int32()) for name in HEADER.split(",")])
    )
    pq.write_table(table, path, compression="zstd", row_group_size=rows)


def wide(path: Path) -> None:
    pq.write_table(pa.table({f"c{i}": pa.nulls(1) for i in range(COLUMNS)} | dict(columns(1).to_pydict())), path)


def nested(path: Path) -> None:
    pq.write_table(columns(1, amount=pa.array([[1.0]])), path)


def header(path: Path) -> None:
    path.write_text(f"{HEADER},{'x' * 389_000}\n")


def names(path: Path) -> None:
    path.write_text(f"{HEADER}{',' * COLUMNS}\n")


def torn_rows(path: Path) -> None:
    """Rows with too few fields: all are kept, but not in memory at the same time."""
    path.write_text(f"{HEADER}\n" + "x\n" * 200_000)


def expanding(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(160):
            file.write(b"\n" * (1 << 20))
    text = gzip.compress(f"{HEADER}\n".encode()) + path.read_bytes()
    path.write_bytes(text)


def endless(path: Path) -> None:
    path.write_bytes(gzip.compress(f"{HEADER}\n".encode() + b"x" * (1 << 27)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("a.parquet", dictionary, {"customer_id: longer than 4,096 bytes": 32_768}),
        ("a.parquet", ignored_column, {"amount: expected a number": 32_768}),
        ("a.parquet", pages, {"a.parquet has a row group with more than 1,073,741,824 bytes of 'customer_id'": 1}),
        ("a.parquet", delta, {"unreadable: ": 1}),
        ("a.parquet", nulls, {"a.parquet claims 20,000,000 rows; a file of its size can have at most ": 1}),
        ("a.parquet", wide, {f"a.parquet has {COLUMNS + 7:,} columns; the limit is {COLUMNS:,}": 1}),
        (
            "a.parquet",
            nested,
            {"a.parquet has the column 'amount' of type list<element: double>; expected": 1},
        ),
        ("a.csv", header, {f"a.csv cannot be read as CSV: its header line is longer than {HEADER_BYTES:,} bytes": 1}),
        ("a.csv", names, {f"a.csv has {COLUMNS + 7:,} columns; the limit is {COLUMNS:,}": 1}),
        ("a.csv", torn_rows, {"wrong number of fields": 200_000}),
        ("a.csv.gz", expanding, {f"unreadable: it expands to more than {EXPANSION} times its size": 1}),
        ("a.csv.gz", endless, {"unreadable: a row is longer than 1,048,576 bytes": 1}),
    ],
)
def test_a_small_file_takes_little_memory(
    tmp_path: Path, name: str, write: Callable[[Path], None], expected: dict[str, int]
) -> None:
    write(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / name)], capture_output=True, text=True, check=True, timeout=300
    )
    reasons, growth = json.loads(done.stdout)
    ((reason, count),) = reasons
    ((start, rows),) = expected.items()
    assert reason.startswith(start)
    assert count == rows
    assert growth < GROWTH
