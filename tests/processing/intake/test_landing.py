"""Reading a file: every row is accepted unchanged or refused with its file, line, content and the reason."""

import contextlib
import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.contract import Contract
from processing.contracts.reader import load, parse
from processing.errors import BadInput
from processing.intake.files import check_file, read_file
from processing.tables.schemas import intake_schema, transaction_schema

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTRACT = parse(
    """
name = "shop"
numeric = ["distance"]
categorical = { channel = ["chip", "online"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[amount]
maximum = 5000
[[entity]]
name = "card"
column = "card_no"
windows_days = [1]
"""
)
GOOD = {
    "id": "a1",
    "at": "2026-03-01T12:00:00Z",
    "value": "12.34",
    "fraud": "0",
    "card_no": "C7",
    "distance": "1.5",
    "channel": "chip",
}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ULB = load("ulb")


def read(path: Path, contract: Contract = CONTRACT) -> list[dict[str, Any]]:
    """All rows of a file, accepted and refused, after the check that precedes reading."""
    check_file(path, contract, path.name)
    batches = list(read_file(path, contract, path.name, NOW))
    assert all(batch.schema == intake_schema(contract) for batch in batches)
    rows: list[dict[str, Any]] = pa.Table.from_batches(batches, intake_schema(contract)).to_pylist()
    return rows


def csv_of(rows: list[dict[str, Any]]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n"


def in_csv(folder: Path, *changes: dict[str, Any], contract: Contract = CONTRACT) -> list[dict[str, Any]]:
    path = folder / "rows.csv"
    path.write_text(csv_of([GOOD | change for change in changes]), encoding="utf-8")
    return read(path, contract)


def in_parquet(folder: Path, contract: Contract = CONTRACT, **columns: pa.Array) -> list[dict[str, Any]]:
    """Good rows, with some columns replaced."""
    rows = len(next(iter(columns.values())))
    plain = {name: pa.array([value] * rows) for name, value in GOOD.items()} | {"id": pa.array(map(str, range(rows)))}
    pq.write_table(pa.table(plain | columns), folder / "rows.parquet")
    return read(folder / "rows.parquet", contract)


def test_a_good_row_has_the_contracts_shape(tmp_path: Path) -> None:
    (row,) = in_csv(tmp_path, {})
    assert row == {
        "transaction_id": "a1",
        "event_time": NOON,
        "amount_minor": 1234,
        "is_fraud": 0,
        "card": "C7",
        "distance": 1.5,
        "channel": "chip",
        "file": "rows.csv",
        "line": 2,
        "reason": None,
        "content": None,
    }
    assert transaction_schema(CONTRACT).names == list(row)[:7]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "id: a value is required"),
        ({"id": "  "}, "id: a value is required"),
        ({"at": ""}, "at: a value is required"),
        ({"at": "yesterday"}, "at: expected an ISO-8601 time"),
        ({"at": "2026-02-30"}, "at: expected an ISO-8601 time"),
        ({"at": "1999-12-31T23:59:59Z"}, "at: expected a time from 2000 to now"),
        ({"at": "2026-06-02T00:00:01Z"}, "at: expected a time from 2000 to now"),
        ({"value": ""}, "value: a value is required"),
        ({"value": "twelve"}, "value: expected a number"),
        ({"value": "nan"}, "value: a value is required"),
        ({"value": "inf"}, "value: expected a number"),
        ({"value": "-0.01"}, "value: an amount is not negative"),
        ({"value": "5000.01"}, "value: more than the contract's maximum"),
        ({"value": "1e300"}, "value: more than the contract's maximum"),
        ({"fraud": "maybe"}, "fraud: unknown label, expected 1, 0 or nothing"),
        ({"fraud": "2"}, "fraud: unknown label, expected 1, 0 or nothing"),
        ({"card_no": ""}, "card_no: a value is required"),
        ({"distance": "far"}, "distance: expected a number"),
        ({"distance": "-inf"}, "distance: expected a number"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_a_bad_value_refuses_its_row_only(change: dict[str, str], reason: str, form: str, tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"id": "bad"} | change, GOOD | {"id": "a2"}]
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes((gzip.compress if form == "csv.gz" else bytes)(csv_of(rows).encode()))
    first, bad, last = read(path)
    assert (first["reason"], last["reason"]) == (None, None)
    assert (first["transaction_id"], last["transaction_id"]) == ("a1", "a2")
    assert (bad["file"], bad["line"]) == (path.name, 2 if form == "parquet" else 3)
    assert bad["reason"] == reason
    assert json.loads(bad["content"]) == rows[1]


def test_a_row_with_several_faults_has_the_first_as_its_reason(tmp_path: Path) -> None:
    (row,) = in_csv(tmp_path, {"value": "x", "fraud": "y"})
    assert row["reason"].startswith("value: ")


def test_invalid_utf8_in_a_value_refuses_only_that_row(tmp_path: Path) -> None:
    text = csv_of([GOOD | {"id": name, "card_no": "Müller"} for name in ("a", "b", "c")])
    data = text.encode().replace(b"b,2026-03-01T12:00:00Z,12.34,0,M\xc3\xbc", b"b,2026-03-01T12:00:00Z,12.34,0,M\xfc")
    (tmp_path / "rows.csv").write_bytes(data)
    good, bad, other = read(tmp_path / "rows.csv")
    assert (good["card"], other["card"], other["reason"]) == ("Müller", "Müller", None)
    assert (bad["reason"], json.loads(bad["content"])["card_no"]) == ("card_no: expected an id", "M\ufffdller")


def test_rows_with_a_wrong_number_of_fields_are_refused_with_their_full_text(tmp_path: Path) -> None:
    lines = csv_of([GOOD | {"id": name} for name in "abcd"]).splitlines()
    lines[2] += ",more"
    lines[4] = "d,2026-03-01T12:00:00Z"
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    rows = {row["line"]: row for row in read(tmp_path / "rows.csv")}
    assert [(line, rows[line]["transaction_id"]) for line in (2, 4)] == [(2, "a"), (4, "c")]
    for line in (3, 5):
        assert (rows[line]["reason"], rows[line]["content"]) == ("wrong number of fields", lines[line - 1])


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:00:00", "2026-03-01 12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01T07:30:00.000-0430"]
)
def test_iso_times_without_an_offset_are_utc(text: str, tmp_path: Path) -> None:
    (row,) = in_csv(tmp_path, {"at": text})
    assert (row["event_time"], row["reason"]) == (NOON, None)


def test_one_column_may_mix_iso_times_of_different_forms(tmp_path: Path) -> None:
    times = ["2026-03-01", "2026-03-01T12:00:00.123456Z", "2026-03-01T12:00+02:00"]
    times_read = [row["event_time"] for row in in_csv(tmp_path, *({"at": time} for time in times))]
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    assert times_read == [midnight, NOON + timedelta(microseconds=123456), midnight + timedelta(hours=10)]


@pytest.mark.parametrize(("form", "begin"), [("unix", 0), ("elapsed", 1_767_225_600)])
def test_seconds_are_counted_from_1970_or_from_the_origin(form: str, begin: int, tmp_path: Path) -> None:
    contract = replace(CONTRACT, time_format=form, time_origin=datetime(2026, 1, 1, tzinfo=UTC))
    since = int(NOON.timestamp()) - begin
    times = {"at": f"{since}.25"}, {"at": since}, {"at": "noon"}, {"at": "1e300"}, {"at": ""}
    first, second, *bad = in_csv(tmp_path, *times, contract=contract)
    assert (first["event_time"], second["event_time"]) == (NOON + timedelta(seconds=0.25), NOON)
    assert [row["reason"].split(",")[0] for row in bad] == [
        *[f"at: expected seconds since {contract.time_origin:%Y-%m-%d}"] * 2,
        "at: a value is required",
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON]),
        pa.array([NOON], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ns")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("s")),
    ],
    ids=lambda column: str(column.type),
)
def test_timestamp_columns_are_read_according_to_their_type(column: pa.Array, tmp_path: Path) -> None:
    assert [row["event_time"] for row in in_parquet(tmp_path, at=column)] == [NOON]


def test_dates_are_read_as_midnight_utc(tmp_path: Path) -> None:
    (row,) = in_parquet(tmp_path, at=pa.array([date(2026, 3, 1)]))
    assert row["event_time"] == datetime(2026, 3, 1, tzinfo=UTC)


def test_labels_are_read_in_all_spellings(tmp_path: Path) -> None:
    spellings = {"1": 1, "0": 0, "true": 1, "False": 0, "TRUE": 1, "1.0": 1, "0.0": 0, " 1 ": 1, "": None}
    rows = in_csv(tmp_path, *({"fraud": spelling} for spelling in spellings))
    assert [row["is_fraud"] for row in rows] == list(spellings.values())
    assert not any(row["reason"] for row in rows)


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.int64(), pa.float64(), pa.string()], ids=str)
def test_labels_are_read_from_all_types(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array([1, 0, None]).cast(kind)
    assert [row["is_fraud"] for row in in_parquet(tmp_path, fraud=column)] == [1, 0, None]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["596", "597"]),
        pa.array([596, 597], pa.int32()),
        pa.array([596, 597], pa.int64()),
        pa.array([596.0, 597.0]),
        pa.array(["596", "597"]).dictionary_encode(),
        pa.array([" 596", "597 "], pa.large_string()),
    ],
    ids=lambda column: str(column.type),
)
def test_ids_of_any_type_are_read_as_the_same_text(column: pa.Array, tmp_path: Path) -> None:
    rows = in_parquet(tmp_path, id=column, card_no=column)
    assert [(row["transaction_id"], row["card"]) for row in rows] == [("596", "596"), ("597", "597")]


def test_large_ids_keep_all_their_digits(tmp_path: Path) -> None:
    number = 4_613_314_721_966_000_001
    assert [row["card"] for row in in_parquet(tmp_path, card_no=pa.array([number]))] == [str(number)]
    assert [row["card"] for row in in_csv(tmp_path, {"card_no": number})] == [str(number)]


@pytest.mark.parametrize(
    ("values", "kind", "keys"),
    [
        ([2.0**53 - 1, 2.0**53, 1e19, float("inf"), -(2.0**53)], pa.float64(), [str(2**53 - 1)] + [None] * 4),
        ([2.0**24 - 1, 2.0**24, float("-inf")], pa.float32(), [str(2**24 - 1), None, None]),
        ([2**53 + 1, 2**63 - 1], pa.int64(), [str(2**53 + 1), str(2**63 - 1)]),
        ([2**64 - 1], pa.uint64(), [str(2**64 - 1)]),
    ],
)
def test_a_float_too_large_to_identify_one_id_is_refused(
    values: list[float], kind: pa.DataType, keys: list[str | None], tmp_path: Path
) -> None:
    rows = in_parquet(tmp_path, card_no=pa.array(values, kind))
    assert [row["card"] for row in rows] == keys
    reasons = [None if key else "card_no: expected an id" for key in keys]
    assert [row["reason"] and row["reason"].partition(" (")[0] for row in rows] == reasons


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("id", "x" * 257, "longer than 256 characters"),
        ("card_no", "ü" * 257, "longer than 256 characters"),
        ("channel", "x" * 257, "longer than 256 characters"),
        ("card_no", "x" * 4097, "longer than 4,096 bytes"),
        ("value", "1" * 4097, "longer than 4,096 bytes"),
        ("card_no", "C\n7", "contains a line end"),
        ("channel", "chip\rchip", "contains a line end"),
    ],
)
def test_values_too_long_or_with_line_ends_are_refused(
    column: str, value: str, reason: str, form: str, tmp_path: Path
) -> None:
    rows = [GOOD | {"id": "whole", "card_no": "ü" * 256}, GOOD | {column: value}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    quoted = [row | {column: f'"{row[column]}"'} for row in rows]
    (tmp_path / "rows.csv").write_bytes(csv_of(quoted).replace(f'"{column}"', column).encode())
    whole, *others = read(tmp_path / f"rows.{form}")
    assert whole["reason"] is None
    if form == "csv" and "line end" in reason:
        assert [row["reason"] for row in others] == ["a quote that opens in line 3 spans lines up to 4"] * 2
    else:
        assert [row["reason"] for row in others] == [f"{column}: {reason}"]


def test_invalid_utf8_in_parquet_refuses_only_that_row(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"C\xff", b"C7"]).buffers())
    first, second = in_parquet(tmp_path, card_no=bad)
    assert (first["reason"], second["card"]) == ("card_no: expected an id", "C7")
    assert json.loads(first["content"])["card_no"] == "C\ufffd"


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ms", "UTC"), pa.timestamp("ms"), pa.timestamp("us"), pa.date32()], ids=str
)
def test_a_time_out_of_range_is_refused(kind: pa.DataType, tmp_path: Path) -> None:
    far = pa.array([2**30], pa.int32()) if pa.types.is_date(kind) else pa.array([2**62])
    (row,) = in_parquet(tmp_path, at=far.cast(kind))
    assert row["reason"].startswith("at: expected")
    assert json.loads(row["content"])["id"] == "0"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([["C7"]]), "list<element: string>"),
        (pa.array([{"a": 1}]), "struct<a: int64>"),
        (pa.array([1], pa.time64("us")), r"time64\[us\]"),
    ],
)
def test_the_error_for_an_unreadable_column_names_it_and_its_type(column: pa.Array, kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"^rows.parquet has the column 'card_no' of type {kind}; expected text, "):
        in_parquet(tmp_path, card_no=column)


def test_a_refused_row_of_a_parquet_file_is_kept_whole(tmp_path: Path) -> None:
    """Across batches and row groups, and including columns outside the contract."""
    rows = 40_000
    ids = [f"t{i}" for i in range(rows)]
    values = ["1" if i % 9_999 else "none" for i in range(rows)]
    plain = {name: pa.array([value]).take(pa.array([0] * rows)) for name, value in GOOD.items()}
    remarks = {"remark": pa.array([f"of {i}" for i in range(rows)]), "nested": pa.array([[i] for i in range(rows)])}
    table = pa.table(plain | {"id": pa.array(ids), "value": pa.array(values)} | remarks)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=25_000)
    refused = [row for row in read(tmp_path / "rows.parquet") if row["reason"]]
    assert [row["line"] for row in refused] == [i + 1 for i in range(0, rows, 9_999)]
    for row in refused:
        content = json.loads(row["content"])
        assert content == GOOD | {"id": ids[row["line"] - 1], "value": "none", "remark": f"of {row['line'] - 1}"}


def test_amounts_are_rounded_to_whole_minor_units(tmp_path: Path) -> None:
    amounts = {"0": 0, "0.1": 10, "1.005": 100, "19.99": 1999, "1e3": 100_000, "5000": 500_000}
    rows = in_csv(tmp_path, *({"value": amount} for amount in amounts))
    assert [row["amount_minor"] for row in rows] == list(amounts.values())


def test_extra_columns_may_be_empty_and_categories_unknown(tmp_path: Path) -> None:
    (row,) = in_csv(tmp_path, {"distance": "", "channel": "pigeon"})
    assert (row["reason"], row["distance"], row["channel"]) == (None, None, "pigeon")
    (row,) = in_csv(tmp_path, {"distance": "nan", "channel": ""})
    assert (row["reason"], row["distance"], row["channel"]) == (None, None, None)


def test_columns_may_be_in_any_order_and_unknown_ones_are_ignored(tmp_path: Path) -> None:
    row = {"remark": "none"} | dict(reversed(GOOD.items()))
    (tmp_path / "rows.csv").write_text("\ufeff" + csv_of([row]), encoding="utf-8")
    assert read(tmp_path / "rows.csv") == in_csv(tmp_path, {})


def test_quoted_values_may_contain_commas_and_line_ends(tmp_path: Path) -> None:
    (row,) = in_csv(tmp_path, {"remark": '"a, ""b""\nand c"', "card_no": '"C, ""7"""'})
    assert (row["card"], row["reason"]) == ('C, "7"', None)


def test_the_error_for_a_missing_column_lists_the_expected_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,at,amount\n1,2026-03-01,3\n")
    with pytest.raises(
        BadInput,
        match=r"mine\.csv has no column 'value': 5 of the 7 columns that the contract 'shop' expects are missing among "
        r"the 3 found\. It expects id, at, value",
    ):
        check_file(path, CONTRACT, "mine.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("t1,2026-03-01T12:00:00Z,12.5,0,4111111111111111,123,chip", "no column 'id': 7 of the 7"),
        ("id,at,Value,fraud,card_no,distance,channel", r"no column 'value' \(there is 'Value'\): 1 of the 7"),
        ("id;at;value;fraud;card_no;distance;channel", "among the 1 found. Values are separated by commas"),
    ],
)
def test_an_error_shows_a_header_value_only_if_it_resembles_a_column(header: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\n")
    with pytest.raises(BadInput, match=message) as caught:
        check_file(tmp_path / "rows.csv", CONTRACT, "mine.csv")
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize("line", [b"\x80,a,b\n", b"\xff" * 90 + b"\n", b"d,1,2,3,4,5,6,7,\xc3\x28\n"])
def test_a_row_of_invalid_bytes_is_kept(line: bytes, tmp_path: Path) -> None:
    good = csv_of([GOOD]).encode()
    (tmp_path / "rows.csv").write_bytes(good + line + good.splitlines(keepends=True)[1].replace(b"a1", b"a2"))
    first, last, torn = sorted(read(tmp_path / "rows.csv"), key=lambda row: str(row["reason"]))
    assert (first["reason"], last["reason"], torn["line"]) == (None, None, 3)
    assert (torn["reason"], torn["content"]) == ("wrong number of fields", line.decode(errors="replace").strip("\n"))


def test_unnamed_and_duplicate_columns_outside_the_contract_are_accepted(tmp_path: Path) -> None:
    rows = csv_of([GOOD, GOOD | {"value": "x"}]).splitlines()
    (tmp_path / "rows.csv").write_text("\n".join(f"{row},," for row in rows))
    good, bad = read(tmp_path / "rows.csv")
    assert (good["reason"], bad["reason"]) == (None, "value: expected a number")
    assert json.loads(bad["content"]) == GOOD | {"value": "x", "": "", " (2)": ""}


def test_header_names_may_be_in_any_encoding_and_on_two_lines(tmp_path: Path) -> None:
    header, row = csv_of([GOOD | {"remark": "a"}]).encode().splitlines()
    (tmp_path / "rows.csv").write_bytes(header.replace(b"remark", b'"caf\xe9\nno. 2"') + b"\n" + row + b"\n")
    (good,) = read(tmp_path / "rows.csv")
    assert (good["line"], good["reason"]) == (3, None)


def test_a_duplicate_contract_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",".join([*GOOD, "value"]) + "\n" + ",".join([*GOOD.values(), "3"]) + "\n")
    with pytest.raises(BadInput, match=r"mine\.csv has the column 'value' twice"):
        check_file(path, CONTRACT, "mine.csv")


def test_an_empty_line_does_not_shift_later_line_numbers(tmp_path: Path) -> None:
    lines = csv_of([GOOD, GOOD | {"id": "", "value": "1"}]).splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([*lines[:2], "", lines[2]]) + "\n")
    assert [row["line"] for row in read(tmp_path / "rows.csv") if row["reason"]] == [4]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        pytest.param([596.0, float("nan")], ["596", None], id="missing"),
        pytest.param([596.0, 597.5], ["596", "597.5"], id="fraction"),
    ],
)
def test_the_text_of_a_numeric_id_does_not_depend_on_other_rows(
    values: list[float], keys: list[str | None], tmp_path: Path
) -> None:
    assert [row["card"] for row in in_parquet(tmp_path, card_no=pa.array(values))] == keys


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
@pytest.mark.parametrize(
    "data", [b"", b"PAR1 and then nothing", bytes(range(256))], ids=["empty", "truncated", "noise"]
)
def test_a_file_of_another_format_is_refused_with_its_name(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=r"^mine (cannot be read as|has no column)"):
        check_file(tmp_path / name, CONTRACT, "mine")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv.gz", "parquet"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_detected(suffix: str, share: float, tmp_path: Path) -> None:
    """Either by the check, or by a last row that reports it."""
    numbers = random.Random(3)
    rows = [GOOD | {"id": f"a{i}", "value": f"{numbers.random() * 100:.2f}", "card_no": f"C{numbers.getrandbits(64)}"}
            for i in range(120_000)]  # fmt: skip
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(csv_of(rows).encode(), 1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    readable: list[dict[str, Any]] = []
    with contextlib.suppress(BadInput):
        readable = read(path)
    assert len(readable) < len(rows)
    if readable:
        assert readable[-1]["reason"].startswith("unreadable: ")
        assert readable[-1]["file"] == path.name


def ulb_rows(folder: Path, amounts: list[float]) -> list[dict[str, Any]]:
    line = dict.fromkeys(ULB.columns, "0.5") | {"Time": "7200", "Class": "0"}
    (folder / "ulb.csv").write_text(csv_of([line | {"Amount": amount} for amount in amounts]))
    return read(folder / "ulb.csv", ULB)


def test_derived_ids_are_reproducible_and_distinguish_equal_rows(tmp_path: Path) -> None:
    first, again = (ulb_rows(tmp_path, [1.5, 2.5, 1.5, 1.5]) for _ in range(2))
    ids = [row["transaction_id"] for row in first]
    assert len(set(ids)) == 4
    assert [row["transaction_id"] for row in again] == ids
    longer = ulb_rows(tmp_path, [2.5, 1.5, 9.0])
    assert [row["transaction_id"] for row in longer[:2]] == [ids[1], ids[0]]


def test_a_derived_id_does_not_depend_on_the_label(tmp_path: Path) -> None:
    (row,) = ulb_rows(tmp_path, [1.5])
    text = (tmp_path / "ulb.csv").read_text()
    (tmp_path / "ulb.csv").write_text(text.rstrip().removesuffix("0") + "1\n")
    (labelled,) = read(tmp_path / "ulb.csv", ULB)
    assert (row["is_fraud"], labelled["is_fraud"]) == (0, 1)
    assert row["transaction_id"] == labelled["transaction_id"]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
names = texts.map(str.strip).filter(bool)
valid_rows = st.fixed_dictionaries(
    {
        "id": names,
        "at": st.datetimes(datetime(2000, 1, 1), datetime(2026, 5, 31)).map(lambda time: time.replace(tzinfo=UTC)),
        "value": st.floats(0, 5000),
        "fraud": st.none() | st.integers(0, 1),
        "card_no": names,
        "distance": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "channel": st.none() | names,
    }
)
KINDS = [pa.string(), pa.timestamp("us", "UTC"), pa.float64(), pa.int8(), pa.string(), pa.float64(), pa.string()]
SCHEMA = pa.schema(list(zip(GOOD, KINDS, strict=True)))


@settings(max_examples=60, deadline=None)
@given(st.lists(valid_rows, min_size=1, max_size=12))
def test_csv_and_parquet_files_of_the_same_rows_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    table = pa.Table.from_pylist(rows, SCHEMA)
    write: dict[str, Callable[[pa.Table, Path], None]] = {
        "rows.csv": pyarrow.csv.write_csv,
        "rows.parquet": pq.write_table,
    }
    results = []
    for name, write_file in write.items():
        write_file(table, folder / name)
        results.append([{k: v for k, v in row.items() if k not in ("file", "line")} for row in read(folder / name)])
    assert results[0] == results[1]
    assert [row["reason"] for row in results[0]] == [None] * len(rows)
    assert [row["event_time"] for row in results[0]] == [row["at"] for row in rows]
    assert [row["card"] for row in results[0]] == [row["card_no"] for row in rows]
    assert [row["distance"] for row in results[0]] == [row["distance"] for row in rows]


SECRET = "S3CR3T"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["", "4", "\n", '"', "é", " "])), min_size=1, max_size=6),
    st.integers(-2, 2),
    st.booleans(),
    st.booleans(),
)
def test_no_reason_and_no_error_contains_a_value(
    tmp_path_factory: pytest.TempPathFactory,
    misplaced: list[tuple[int, str]],
    shift: int,
    with_header: bool,
    parquet: bool,
) -> None:
    """Secret values in the wrong columns, and in shifted rows."""
    rows = []
    for column, mark in misplaced:
        values = list(GOOD.values())
        values[column] = f"{mark}{SECRET}{mark}"
        moved = [SECRET] * max(shift, 0) + values + [SECRET] * max(-shift, 0)
        rows.append(moved[: len(GOOD)] if parquet else moved)
    folder = tmp_path_factory.getbasetemp()
    names = list(GOOD) if with_header else [f"{SECRET}{i}" for i in range(len(GOOD))]
    if parquet:
        path = folder / "secret.parquet"
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
    else:
        path = folder / "secret.csv"
        path.write_text("\n".join(",".join(row) for row in [names, *rows]), encoding="utf-8")
    if not with_header:
        with pytest.raises(BadInput) as caught:
            read(path)
        assert SECRET not in str(caught.value)
        return
    refused = [row for row in read(path) if row["reason"]]
    assert not any(SECRET in row["reason"] for row in refused)
    assert not refused or any(SECRET in row["content"] for row in refused)
