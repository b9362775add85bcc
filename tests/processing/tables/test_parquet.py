"""Parquet files whose bytes have changed raise an error, and are never read as other values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_sets import CONTRACT, FIRST_DAY, rows_table

from pipeline.data import dataset
from processing.errors import BadInput, Damaged
from processing.job.spark_settings import SHARED
from processing.storage.open import open_home
from processing.tables.parquet import SPARK, WRITE, fault_of
from processing.tables.schemas import features_schema
from processing.tables.tables import open_tables

ROWS = rows_table(days=4, per_day=30)
SCHEMA = pa.schema([field.with_nullable(True) for field in features_schema(CONTRACT)])


def flipped(whole: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(whole)
    changed[at % len(whole)] ^= 1 << bit
    return bytes(changed)


def footer(whole: bytes) -> int:
    return len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("set") / "2024-10-04-0.parquet"
    pq.write_table(ROWS, path, **WRITE)
    return path, path.read_bytes()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), in_footer=st.booleans())
def test_a_flipped_bit_in_a_set_is_detected_or_changes_nothing(
    written: tuple[Path, bytes], place: int, bit: int, in_footer: bool
) -> None:
    path, whole = written
    path.write_bytes(whole)
    before = dataset.read(path.parent, CONTRACT).digest
    start = footer(whole)
    place = start + place % (len(whole) - start) if in_footer else place % start
    path.write_bytes(flipped(whole, place, bit))
    try:
        assert dataset.read(path.parent, CONTRACT).digest == before
    except (Damaged, BadInput) as error:  # a column of another name is BadInput
        assert str(path.parent) in str(error)  # noqa: PT017


def test_the_error_for_a_damaged_set_names_the_file_and_the_remedy(written: tuple[Path, bytes]) -> None:
    path, whole = written
    for place in (200, len(whole) // 2, len(whole) - 6):
        path.write_bytes(flipped(whole, place, 3))
        again = r"run `fraudline home repair`, then run the pipeline again, which rewrites the sets"
        with pytest.raises(Damaged, match=rf"2024-10-04-0\.parquet is damaged: .*; {again}"):
            dataset.read(path.parent, CONTRACT)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "old.parquet")
    assert dataset.read(tmp_path, CONTRACT).rows == len(ROWS)
    assert fault_of(tmp_path / "old.parquet", ROWS.schema, len(ROWS)) == ""


def test_the_checksums_that_spark_writes_beside_a_file_cover_its_footer(tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    pq.write_table(ROWS, path)
    whole = path.read_bytes()
    blocks = (whole[at : at + 512] for at in range(0, len(whole), 512))
    sums = b"".join(crc32(block).to_bytes(4, "big") for block in blocks)
    (tmp_path / ".day.parquet.crc").write_bytes(b"crc\0" + (512).to_bytes(4, "big") + sums)
    assert fault_of(path, ROWS.schema, len(ROWS)) == ""
    path.write_bytes(whole.replace(b"parquet-cpp-arrow", b"parquet-cpp-Arrow"))
    assert "checksums beside it" in fault_of(path, ROWS.schema, len(ROWS))


@pytest.fixture
def features(tmp_path: Path) -> Callable[[Any], tuple[Path, Any]]:
    """A home with one committed file of features, and that file after a change."""

    def with_file(change: Callable[[bytes], bytes | None]) -> tuple[Path, Any]:
        home, day = open_home(tmp_path / "home"), FIRST_DAY
        local, key = tmp_path / "day.parquet", "warehouse/fraudline/features/data/run1/day.parquet"
        pq.write_table(rows_table(days=1, per_day=30).select(SCHEMA.names).cast(SCHEMA), local, **WRITE)
        home.upload(local, key)
        open_tables(home, CONTRACT).replace_days("features", [day], [key])
        path = home.path(key)  # type: ignore[attr-defined]
        after = change(path.read_bytes())
        path.unlink() if after is None else path.write_bytes(after)
        return path, open_tables(home, CONTRACT)

    return with_file


def test_the_committed_rows_are_read(features: Any) -> None:
    _, tables = features(lambda whole: whole)
    expected = rows_table(days=1, per_day=30).select(SCHEMA.names).cast(SCHEMA)
    assert repr(tables.read("features").to_pylist()) == repr(expected.to_pylist())  # where NaN equals NaN
    assert tables.read("features", [FIRST_DAY], ["is_fraud"]).equals(expected.select(["is_fraud"]))
    assert len(tables.read("features", [FIRST_DAY + 1])) == len(tables.read("transactions")) == 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda whole: flipped(whole, 300, 4), "cannot be read: OSError"),
        (lambda whole: whole[: len(whole) // 2], "cannot be read: ArrowInvalid"),
        (lambda whole: None, "is missing"),
        (lambda whole: b"", "cannot be read: ArrowInvalid"),
    ],
    ids=["flipped", "truncated", "missing", "empty"],
)
def test_the_error_for_a_damaged_file_names_it(features: Any, change: Any, fault: str) -> None:
    path, tables = features(change)
    with pytest.raises(Damaged, match=rf"{path.name} {fault}.*home repair"):
        tables.read("features")


def test_a_file_with_another_number_of_rows_is_damaged(features: Any) -> None:
    def halved(whole: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pq.read_table(pa.BufferReader(whole)).slice(0, 11), sink)
        return bytes(sink.getvalue())

    _, tables = features(halved)
    with pytest.raises(Damaged, match="it has 11 rows, the table says 30"):
        tables.read("features")


def test_glue_and_a_laptop_both_verify_checksums() -> None:
    assert SPARK.items() <= SHARED.items()
