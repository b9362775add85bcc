"""Reads a file of transactions: is it what the contract describes, and which of its rows are accepted."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa

from processing.contract import Contract
from processing.errors import BadInput
from processing.intake.csv_file import CsvFile
from processing.intake.parquet_file import ParquetFile
from processing.intake.records import MalformedLine, UnreadableRows
from processing.intake.row_checks import RowChecks

UNREADABLE = "unreadable"
RENAME = (
    "Rename the file's columns; or, in a home without data, run with a contract of your own that names them "
    "(fraudline run --contract FILE.toml)"
)
SIMILAR = 0.8  # how similar to an expected column's name a name must be to be shown


def check_file(
    path: Path,
    contract: Contract,
    name: str,
    *,
    labelled: bool = True,
    remedy: str = RENAME,
    optional: Collection[str] = (),
) -> tuple[str, ...]:
    """Raise BadInput, naming file and column, unless the file can be opened and has the contract's columns.

    Without `labelled` the label may be missing, and the `optional` columns always may; returns those that are.
    `remedy`: what to do about columns of other names.
    """
    try:
        file = _open(path)
        lacks = tuple(column for column in optional if column not in file.names)
        expected = _expected(contract, labelled, lacks)
        _check_names(file.names, expected, contract, remedy)
        file.check(expected)
    except BadInput as error:
        raise BadInput(f"{name} {error}") from None
    return lacks


def read_file(
    path: Path,
    contract: Contract,
    name: str,
    now: datetime,
    *,
    labelled: bool = True,
    optional: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, accepted and refused, in `intake_schema`, batch by batch in bounded memory.

    `now` bounds the event times. If the file is truncated or damaged, the last row's reason starts with UNREADABLE.
    Without `labelled` the labels are not read, and are null; so are `optional` columns that the file lacks.
    """
    checks = RowChecks(contract, name, now, labelled=labelled)
    try:
        file = _open(path)
        lacks = tuple(column for column in optional if column not in file.names)
        for rows in file.raw_rows(_expected(contract, labelled, lacks)):
            if len(rows.lines):
                nulls = pa.nulls(len(rows.lines), pa.string())
                yield checks.checked(replace(rows, columns=rows.columns | dict.fromkeys(lacks, nulls)))
            if rows.malformed:
                yield checks.refused(rows.malformed)
    except UnreadableRows as error:
        yield checks.refused([MalformedLine(error.line, f"{UNREADABLE}: {error}", b"")])


def _open(path: Path) -> CsvFile | ParquetFile:
    return ParquetFile(path) if path.suffix.lower() == ".parquet" else CsvFile(path)


def _expected(contract: Contract, labelled: bool, lacks: Collection[str]) -> tuple[str, ...]:
    columns = contract.columns if labelled else contract.columns[:-1]
    return tuple(column for column in columns if column not in lacks)


def _check_names(names: list[str], expected: tuple[str, ...], contract: Contract, remedy: str) -> None:
    """Raise BadInput for a column that is missing or repeated.

    The file's own names are not shown: if the header line is missing, they are a customer's row.
    """
    twice = [column for column in expected if names.count(column) > 1]
    if twice:
        raise BadInput(f"has the column {twice[0]!r} twice; give every column a name of its own")
    missing = [column for column in expected if column not in names]
    if missing:
        near = get_close_matches(missing[0], names, 1, SIMILAR)
        like = f" (there is {near[0]!r})" if near else ""
        hint = ". Values are separated by commas, in the header line too" if len(names) == 1 else ""
        raise BadInput(
            f"has no column {missing[0]!r}{like}: {len(missing)} of the {len(expected)} columns that the contract "
            f"{contract.name!r} expects are missing among the {len(names)} found{hint}. It expects "
            f"{', '.join(expected)}. {remedy}"
        )
