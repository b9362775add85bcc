"""Reading what landed: a file of raw transactions becomes rows in the contract's shape, each accepted or refused.

A refused row keeps its file, its line, its whole content and the reason. Nothing is repaired by guessing.
"""

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from processing.contract import AHEAD, EARLIEST, Contract
from processing.errors import BadInput
from processing.features import minor_units
from processing.parsing import TIME, as_label, as_number, as_text, as_time, time_words, true_in
from processing.schemas import landed_schema

SUFFIXES = (".csv", ".csv.gz", ".parquet")
UNREADABLE = "unreadable"


def is_readable(name: str) -> bool:
    """Whether a file's name says a format that can be read, and that it is not one still being written."""
    base = name.rsplit("/", 1)[-1]
    return base.lower().endswith(SUFFIXES) and not base.startswith((".", "_"))


def check_file(path: Path, contract: Contract, name: str, *, labelled: bool = True) -> None:
    """Raise BadInput, naming file and column, unless the file can be opened and has the contract's columns.

    Without `labelled` the label's may be missing.
    """
    expected = contract.columns if labelled else contract.columns[:-1]
    try:
        with _open(path) as source:
            found = source.schema.names
    except (pa.ArrowException, OSError, gzip.BadGzipFile, EOFError) as error:
        raise BadInput(f"{name} cannot be read as {_format(path)}: {error}") from None
    twice = [column for column in expected if found.count(column) > 1]
    if twice:
        raise BadInput(f"{name} has the column {twice[0]!r} twice; give every column a name of its own")
    missing = [column for column in expected if column not in found]
    if missing:
        raise BadInput(
            f"{name} has no column {missing[0]!r}; found {', '.join(found)}; the contract {contract.name!r} expects "
            f"{', '.join(expected)}. Name your columns in a contract of your own (--contract FILE.toml)"
        )


def read_file(
    path: Path, contract: Contract, name: str, now: datetime, *, labelled: bool = True
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in `landed_schema`, batch by batch in bounded memory.

    `now` bounds the event times. A file that breaks off yields a last row whose reason starts with UNREADABLE.
    Without `labelled` the labels are not looked at, and null.
    """
    seen: Counter[str] = Counter()
    torn: list[tuple[int, str]] = []
    line = 1 if path.suffix == ".parquet" else 2  # in a text file the header is line 1
    try:
        with _open(path, torn) as source:
            for batch in source.batches():
                skipped = {number for number, _ in torn}
                lines: list[int] = []
                while len(lines) < len(batch):
                    if line not in skipped:
                        lines.append(line)
                    line += 1
                filled = _filled(batch)
                places = np.array(lines, np.int64)[filled]
                yield _judge(batch.filter(filled), contract, name, places, now, seen, labelled)
        for number, text in torn:
            yield _refusal(contract, name, number, "wrong number of fields", text)
    except (pa.ArrowException, OSError, EOFError) as error:
        yield _refusal(contract, name, line, f"{UNREADABLE}: {error}", "")


class _open:  # noqa: N801 - a context manager, used as open() is
    """A file as a schema and a stream of batches; rows with a wrong number of fields go to `torn`."""

    def __init__(self, path: Path, torn: list[tuple[int, str]] | None = None) -> None:
        self.path, self.torn = path, torn if torn is not None else []

    def __enter__(self) -> "_open":
        if self.path.suffix == ".parquet":
            file = pq.ParquetFile(self.path)
            self.schema, self.batches, self._close = file.schema_arrow, file.iter_batches, file.close
            return self
        compression = "gzip" if self.path.suffix == ".gz" else None
        names = _header(self.path, compression)
        stream = pa.input_stream(str(self.path), compression=compression)
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=4 << 20),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True,
                ignore_empty_lines=False,  # so that they count as lines; they are no rows
                invalid_row_handler=self._tear,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False
            ),
        )
        self.schema, self._close = reader.schema, reader.close
        self.batches = lambda: iter(reader)
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _tear(self, row: Any) -> str:
        self.torn.append((row.number or 0, row.text))
        return "skip"


def _filled(batch: pa.RecordBatch) -> np.ndarray:
    """Which rows of a text file hold anything: an empty line counts as a line, but is no row."""
    filled = np.zeros(len(batch), bool)
    for column in batch.columns:
        if not pa.types.is_binary(column.type):  # Parquet, which has no lines
            return np.ones(len(batch), bool)
        filled |= np.asarray(pc.greater(pc.fill_null(pc.binary_length(column), 0), 0))
        if filled.all():
            break
    return filled


def _header(path: Path, compression: str | None) -> list[str]:
    with pa.input_stream(str(path), compression=compression) as stream:
        line = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="").readline()
    names = next(csv.reader([line]), [])
    if not names:
        raise OSError("the file is empty")
    return names


def _format(path: Path) -> str:
    return "Parquet" if path.suffix == ".parquet" else "CSV with a header line"


def _judge(
    batch: pa.RecordBatch,
    contract: Contract,
    name: str,
    lines: np.ndarray,
    now: datetime,
    seen: Counter[str],
    labelled: bool,
) -> pa.RecordBatch:
    rows = len(batch)
    reasons = np.full(rows, None, object)

    def refuse(bad: Any, column: str, why: str) -> None:
        for i in np.flatnonzero(np.asarray(bad, bool)):
            if reasons[i] is None:
                found = batch.column(column)[int(i)].as_py()
                shown = found.decode(errors="replace") if isinstance(found, bytes) else found
                reasons[i] = f"{column}: {why}, found {shown!r}"

    def column(of: str, read: Callable[[pa.Array], tuple[pa.Array, Any]], why: str, *, required: bool) -> pa.Array:
        raw = batch.column(of)
        values, bad = read(raw)
        refuse(bad, of, why)
        if required:
            refuse(pc.and_not(pc.is_null(values), pa.array(bad)).to_numpy(False), of, "a value is required")
        return values

    columns: dict[str, pa.Array] = {}
    if contract.id:
        columns["transaction_id"] = column(contract.id, as_text, "expected an id", required=True)
    time = column(contract.time, lambda raw: as_time(raw, contract), time_words(contract), required=True)
    outside = pc.or_(pc.less(time, pa.scalar(EARLIEST, TIME)), pc.greater(time, pa.scalar(now + AHEAD, TIME)))
    refuse(true_in(outside), contract.time, f"expected a time from {EARLIEST:%Y} to now")
    columns["event_time"] = time
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
        columns[entity.name] = column(entity.column, as_text, "expected an id", required=True)
    for extra in contract.numeric:
        columns[extra] = column(extra, as_number, "expected a number", required=False)
    for extra in contract.categorical:
        columns[extra] = column(extra, as_text, "expected text", required=False)
    if not contract.id:
        columns["transaction_id"] = _derived_ids(columns, seen)
    refused = np.array([reason is not None for reason in reasons])
    content = np.full(rows, None, object)
    for i in np.flatnonzero(refused):
        content[i] = _raw({key: batch.column(key)[int(i)].as_py() for key in batch.schema.names})
    columns |= {"file": pa.array([name] * rows), "line": pa.array(lines), "reason": pa.array(reasons, pa.string())}
    columns["content"] = pa.array(content, pa.string())
    schema = landed_schema(contract)
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)


def _refusal(contract: Contract, name: str, line: int, reason: str, content: str) -> pa.RecordBatch:
    row = {"file": name, "line": line, "reason": reason, "content": content}
    return pa.RecordBatch.from_pylist([row], landed_schema(contract))


def _raw(row: dict[str, Any]) -> str:
    shown = {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in row.items()}
    return json.dumps(shown, default=str, ensure_ascii=False)


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
