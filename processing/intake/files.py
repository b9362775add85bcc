"""Reading what landed: a file of raw transactions becomes rows in the contract's shape, each accepted or refused.

A refused row keeps its file, its line, its whole content and the reason. Nothing is repaired by guessing. A reason
names the column and what was expected there, never what was found: values are in the content alone.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from processing.contract import AHEAD, EARLIEST, Contract
from processing.errors import BadInput
from processing.features.feature_set import minor_units
from processing.intake.columns import Mask, as_label, as_number, as_text, as_time, expected_time, short, true_in
from processing.intake.csv_file import CsvFile
from processing.intake.limits import CELL_BYTES, TEXT_LENGTH
from processing.intake.parquet_file import ParquetFile
from processing.intake.raw_rows import RawRows, shortened
from processing.intake.records import Torn, Unreadable
from processing.tables.schemas import TIME, intake_schema

SUFFIXES = (".csv", ".csv.gz", ".parquet")
UNREADABLE = "unreadable"
TAKEN_IN = (  # what to do about a file that was to be taken in
    "Rename the file's columns; or, in a home without data, run with a contract of your own that names them "
    "(fraudline run --contract FILE.toml)"
)
SIMILAR = 0.8  # how like an expected column's name a found one is, to be shown


def is_readable(name: str) -> bool:
    """Whether a file's name says a format that can be read, and no part of it that it is hidden or not yet whole."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


def check_file(path: Path, contract: Contract, name: str, *, labelled: bool = True, remedy: str = TAKEN_IN) -> None:
    """Raise BadInput, naming file and column, unless the file can be opened and has the contract's columns.

    Without `labelled` the label's may be missing. `remedy`: what to do about columns of other names.
    """
    expected = _expected(contract, labelled)
    try:
        file = _open(path)
        _check_names(file.names, expected, contract, remedy)
        file.check(expected)
    except BadInput as error:
        raise BadInput(f"{name} {error}") from None


def read_file(
    path: Path, contract: Contract, name: str, now: datetime, *, labelled: bool = True
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in `intake_schema`, batch by batch in bounded memory.

    `now` bounds the event times. A file that is truncated or damaged yields a last row whose reason starts with
    UNREADABLE. Without `labelled` the labels are not looked at, and null.
    """
    seen: Counter[str] = Counter()
    try:
        for rows in _open(path).raw_rows(_expected(contract, labelled)):
            if len(rows.lines):
                yield _judge(rows, contract, name, now, seen, labelled)
            if rows.torn:
                yield _refused(contract, name, rows.torn)
    except Unreadable as error:
        yield _refused(contract, name, [Torn(error.line, f"{UNREADABLE}: {error}", b"")])


def _open(path: Path) -> CsvFile | ParquetFile:
    return ParquetFile(path) if path.suffix.lower() == ".parquet" else CsvFile(path)


def _expected(contract: Contract, labelled: bool) -> tuple[str, ...]:
    return contract.columns if labelled else contract.columns[:-1]


def _check_names(found: list[str], expected: tuple[str, ...], contract: Contract, remedy: str) -> None:
    """Raise BadInput for a column that is missing or there twice.

    What was found is not shown: where the header line is missing, it is a customer's row.
    """
    twice = [column for column in expected if found.count(column) > 1]
    if twice:
        raise BadInput(f"has the column {twice[0]!r} twice; give every column a name of its own")
    missing = [column for column in expected if column not in found]
    if missing:
        near = get_close_matches(missing[0], found, 1, SIMILAR)
        like = f" (there is {near[0]!r})" if near else ""
        hint = ". Values are separated by commas, in the header line too" if len(found) == 1 else ""
        raise BadInput(
            f"has no column {missing[0]!r}{like}: {len(missing)} of the {len(expected)} columns that the contract "
            f"{contract.name!r} expects are missing among the {len(found)} found{hint}. It expects "
            f"{', '.join(expected)}. {remedy}"
        )


def _judge(
    raw: RawRows, contract: Contract, name: str, now: datetime, seen: Counter[str], labelled: bool
) -> pa.RecordBatch:
    rows = len(raw.lines)
    reasons = np.full(rows, None, object)

    def refuse(bad: Any, column: str, why: str) -> None:
        bad = np.asarray(bad, bool)
        if bad.any():
            reasons[bad & (reasons == None)] = f"{column}: {why}"  # noqa: E711 (of each)

    def column(of: str, read: Callable[[pa.Array], tuple[pa.Array, Mask]], why: str, *, required: bool) -> pa.Array:
        values, long = short(raw.columns[of])
        refuse(long, of, f"longer than {CELL_BYTES:,} bytes")
        values, bad = read(values)
        refuse(bad, of, why)
        if required:
            refuse(pc.and_not(pc.is_null(values), pa.array(bad)).to_numpy(False), of, "a value is required")
        return values

    def text(of: str, why: str, *, required: bool) -> pa.Array:
        values = column(of, as_text, why, required=required)
        refuse(true_in(pc.greater(pc.utf8_length(values), TEXT_LENGTH)), of, f"longer than {TEXT_LENGTH} characters")
        refuse(true_in(pc.match_substring_regex(values, r"[\r\n]")), of, "there is a line end in it")
        return values

    def identity(of: str) -> pa.Array:
        inexact = " (floats this large are not exact: write ids as text or integers)"
        return text(of, f"expected an id{inexact if pa.types.is_floating(raw.columns[of].type) else ''}", required=True)

    columns: dict[str, pa.Array] = {}
    if contract.id:
        columns["transaction_id"] = identity(contract.id)
    time = column(contract.time, lambda raw: as_time(raw, contract), expected_time(contract), required=True)
    outside = pc.or_(pc.less(time, pa.scalar(EARLIEST, TIME)), pc.greater(time, pa.scalar(now + AHEAD, TIME)))
    refuse(true_in(outside), contract.time, f"expected a time from {EARLIEST:%Y} to now")
    columns["event_time"] = pc.if_else(outside, pa.scalar(None, TIME), time)  # null where it is
    amount = column(contract.amount, as_number, "expected a number", required=True).to_numpy(False)
    refuse(amount < 0, contract.amount, "an amount is not negative")
    refuse(
        ~(amount <= contract.amount_maximum) & ~np.isnan(amount), contract.amount, "more than the contract's maximum"
    )
    sane = np.where((amount >= 0) & (amount <= contract.amount_maximum), amount, 0.0)
    columns["amount_minor"] = pa.array(minor_units(sane, contract))
    if labelled:
        said = "unknown label, expected 1, 0 or nothing"
        columns["is_fraud"] = column(contract.label, as_label, said, required=False)
    else:
        columns["is_fraud"] = pa.nulls(rows, pa.int32())
    for entity in contract.entities:
        columns[entity.name] = identity(entity.column)
    for extra in contract.numeric:
        columns[extra] = column(extra, as_number, "expected a number", required=False)
    for extra in contract.categorical:
        columns[extra] = text(extra, "expected text", required=False)
    if not contract.id:
        columns["transaction_id"] = _derived_ids(columns, seen)
    refused = np.flatnonzero(reasons != None)  # noqa: E711 (of each)
    content = np.full(rows, None, object)
    content[refused] = raw.contents(refused.tolist())
    columns |= {"file": pa.array([name] * rows), "line": pa.array(raw.lines), "reason": pa.array(reasons, pa.string())}
    columns["content"] = pa.array(content, pa.string())
    schema = intake_schema(contract)
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)


def _refused(contract: Contract, name: str, torn: Sequence[Torn]) -> pa.RecordBatch:
    """Lines that are no rows, as rows that are refused."""
    columns: dict[str, pa.Array] = {
        "file": pa.array([name] * len(torn)),
        "line": pa.array([line.line for line in torn], pa.int64()),
        "reason": pa.array([line.reason for line in torn]),
        "content": pa.array([shortened(line.raw.decode(errors="replace")) for line in torn]),
    }
    schema = intake_schema(contract)
    return pa.RecordBatch.from_arrays([columns.get(f.name, pa.nulls(len(torn), f.type)) for f in schema], schema=schema)


def _derived_ids(columns: dict[str, pa.Array], seen: Counter[str]) -> pa.Array:
    """Ids for a dataset that has none: the row's content, and which of its equals in the file it is.

    The same file read twice gives the same ids; two honest equal rows in it stay two.
    """
    content = [column for name, column in columns.items() if name != "is_fraud"]
    ids = []
    for row in zip(*(_plain(column) for column in content), strict=True):
        digest = hashlib.sha256(repr(row).encode()).hexdigest()[:24]
        seen[digest] += 1
        ids.append(f"{digest}-{seen[digest]}")
    return pa.array(ids, pa.string())


def _plain(column: pa.Array) -> Iterable[Any]:
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    values: list[Any] = plain.to_pylist()
    return values
