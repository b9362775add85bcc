"""Checks the rows of a file: each becomes a row in the contract's shape, accepted or refused.

A refused row keeps its file, its line, its whole content and the reason. Nothing is repaired by guessing. A reason
names the column and what was expected there, never the value: values are in the content alone.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from processing.contract import CLOCK_SKEW, EARLIEST, Contract
from processing.features.entity_keys import named_keys
from processing.features.feature_set import minor_units
from processing.features.local_time import skipped_time
from processing.intake.columns import (
    Mask,
    as_label,
    as_mask,
    as_number,
    as_text,
    without_long_values,
)
from processing.intake.limits import CELL_BYTES, TEXT_LENGTH
from processing.intake.raw_rows import RawRows, cut
from processing.intake.records import MalformedLine
from processing.intake.times import as_time, expected_time
from processing.tables.schemas import TIME, intake_schema


class RowChecks:
    """The checks of one file's rows.

    `now` bounds the event times. Without `labelled` the labels are not read, and are null.
    """

    def __init__(self, contract: Contract, name: str, now: datetime, *, labelled: bool) -> None:
        self.contract, self.name, self.now, self.labelled = contract, name, now, labelled
        self._seen: Counter[str] = Counter()

    def checked(self, raw: RawRows) -> pa.RecordBatch:
        """The rows in `intake_schema`; `reason` is null where a row is accepted."""
        contract, read = self.contract, _Columns(raw)
        columns: dict[str, pa.Array] = {}
        if contract.id:
            columns["transaction_id"] = read.id(contract.id)
        columns["event_time"] = self._time(read)
        columns["amount_minor"] = self._amount(read)
        if self.labelled:
            expected = "unknown label, expected 1, 0 or nothing"
            columns["is_fraud"] = read.column(contract.label, as_label, expected, required=False)
        else:
            columns["is_fraud"] = pa.nulls(len(raw.lines), pa.int32())
        columns |= named_keys(contract, {name: read.id(name) for name in contract.key_columns})
        for extra in contract.numeric:
            columns[extra] = read.column(extra, as_number, "expected a number", required=False)
        for extra in contract.categorical:
            columns[extra] = read.text(extra, "expected text", required=False)
        if not contract.id:
            columns["transaction_id"] = self._derived_ids(columns)
        refused = np.flatnonzero(read.reasons != None)  # noqa: E711 (element-wise)
        content = np.full(len(raw.lines), None, object)
        content[refused] = raw.contents(refused.tolist())
        columns["file"] = pa.array([self.name] * len(raw.lines))
        columns["line"] = pa.array(raw.lines)
        columns["reason"] = pa.array(read.reasons, pa.string())
        columns["content"] = pa.array(content, pa.string())
        schema = intake_schema(contract)
        return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)

    def refused(self, lines: Sequence[MalformedLine]) -> pa.RecordBatch:
        """Malformed lines as refused rows."""
        columns: dict[str, pa.Array] = {
            "file": pa.array([self.name] * len(lines)),
            "line": pa.array([line.line for line in lines], pa.int64()),
            "reason": pa.array([line.reason for line in lines]),
            "content": pa.array([cut(line.raw.decode(errors="replace")) for line in lines]),
        }
        schema = intake_schema(self.contract)
        nulls = {field.name: pa.nulls(len(lines), field.type) for field in schema}
        return pa.RecordBatch.from_arrays([(nulls | columns)[name] for name in schema.names], schema=schema)

    def _time(self, read: "_Columns") -> pa.Array:
        contract = self.contract

        def parse(raw: pa.Array) -> tuple[pa.Array, Mask]:
            times = as_time(raw, contract)
            if contract.time_zone:
                read.refuse(times.skipped, contract.time, skipped_time(contract.time_zone))
            return times.values, times.unreadable

        time = read.column(contract.time, parse, expected_time(contract), required=True)
        latest = pa.scalar(self.now + CLOCK_SKEW, TIME)
        outside = pc.or_(pc.less(time, pa.scalar(EARLIEST, TIME)), pc.greater(time, latest))
        read.refuse(as_mask(outside), contract.time, f"expected a time from {EARLIEST:%Y} to now")
        return pc.if_else(outside, pa.scalar(None, TIME), time)  # null stays null

    def _amount(self, read: "_Columns") -> pa.Array:
        contract = self.contract
        amount = read.column(contract.amount, as_number, "expected a number", required=True).to_numpy(False)
        below, above = amount < contract.amount_minimum, amount > contract.amount_maximum
        expected = "expected a refund of at most the contract's maximum"
        read.refuse(below, contract.amount, expected if contract.refunds else "an amount is not negative")
        read.refuse(above, contract.amount, "more than the contract's maximum")
        in_range = np.where(below | above | np.isnan(amount), 0.0, amount)
        return pa.array(minor_units(in_range, contract))

    def _derived_ids(self, columns: dict[str, pa.Array]) -> pa.Array:
        """Ids for a dataset that has none: a digest of the row's content, and its number among equal rows of the file.

        The same file read twice gives the same ids; two legitimate equal rows in it stay two.
        """
        content = [column for name, column in columns.items() if name != "is_fraud"]
        ids = []
        for row in zip(*(_python_values(column) for column in content), strict=True):
            digest = hashlib.sha256(repr(row).encode()).hexdigest()[:24]
            self._seen[digest] += 1
            ids.append(f"{digest}-{self._seen[digest]}")
        return pa.array(ids, pa.string())


class _Columns:
    """Reads the columns of some rows, and notes for each row the first reason to refuse it."""

    def __init__(self, raw: RawRows) -> None:
        self.raw = raw
        self.reasons = np.full(len(raw.lines), None, object)

    def refuse(self, bad: Any, column: str, reason: str) -> None:
        bad = np.asarray(bad, bool)
        if bad.any():
            self.reasons[bad & (self.reasons == None)] = f"{column}: {reason}"  # noqa: E711 (element-wise)

    def column(
        self, name: str, parse: Callable[[pa.Array], tuple[pa.Array, Mask]], expected: str, *, required: bool
    ) -> pa.Array:
        values, long = without_long_values(self.raw.columns[name])
        self.refuse(long, name, f"longer than {CELL_BYTES:,} bytes")
        values, bad = parse(values)
        self.refuse(bad, name, expected)
        if required:
            missing = pc.and_not(pc.is_null(values), pa.array(bad)).to_numpy(False)
            self.refuse(missing, name, "a value is required")
        return values

    def text(self, name: str, expected: str, *, required: bool) -> pa.Array:
        values = self.column(name, as_text, expected, required=required)
        long = pc.greater(pc.utf8_length(values), TEXT_LENGTH)
        self.refuse(as_mask(long), name, f"longer than {TEXT_LENGTH} characters")
        self.refuse(as_mask(pc.match_substring_regex(values, r"[\r\n]")), name, "contains a line end")
        return values

    def id(self, name: str) -> pa.Array:
        floating = pa.types.is_floating(self.raw.columns[name].type)
        hint = " (floats this large are not exact: write ids as text or integers)" if floating else ""
        return self.text(name, f"expected an id{hint}", required=True)


def _python_values(column: pa.Array) -> Iterable[Any]:
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    values: list[Any] = plain.to_pylist()
    return values
