"""The profiles of all keys of an entity, made in Spark and read back in batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from processing.durations import HOUR_US
from processing.storage.spark_files import local_parquet_files
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.settling import settled_profiles
from processing.store.refresh_data import SettledProfile
from processing.tables.parquet import READ

AT_ONCE = 2_000  # profiles
PACKED = pa.schema([("key", pa.string()), ("data", pa.binary())])


def with_changed_keys(rows: DataFrame, names: Sequence[str], *changed: DataFrame | None) -> DataFrame:
    """The rows whose key is also in one of the others. `names` are those of the key's columns.

    A key without a row of its own has one in which all else is null.
    """
    first, *others = (each.select(*names) for each in changed if each is not None)
    for other in others:
        first = first.union(other)
    return first.distinct().join(rows, list(names), "left").select(*rows.columns)


def write_profiles(rows: DataFrame, plan: ProfilePlan, entity: str, horizon: int, address: str) -> str:
    """Write the profiles of an entity's keys, before the hour `horizon`, to Parquet files; returns their address."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = [batch for batch in batches if len(batch)]
        if not held:
            return
        packed = []
        for profile in settled_profiles(plan, entity, pa.Table.from_batches(held), horizon * HOUR_US):
            packed.append((profile.key, profile.data))
            if len(packed) == AT_ONCE:
                yield _batch(packed)
                packed = []
        yield _batch(packed)

    names = plan.key_names_of(entity)
    rows.repartition(*names).mapInArrow(run, from_arrow_schema(PACKED)).write.parquet(address, mode="overwrite")
    return address


def _batch(packed: list[tuple[str, bytes]]) -> pa.RecordBatch:
    keys, data = zip(*packed, strict=True) if packed else ((), ())
    return pa.RecordBatch.from_arrays([pa.array(keys, pa.string()), pa.array(data, pa.binary())], schema=PACKED)


def read_profiles(addresses: Mapping[str, str]) -> Iterator[list[SettledProfile]]:
    """The profiles of all entities. `addresses` are by the entity's name."""
    for entity, address in addresses.items():
        with local_parquet_files(address) as paths:
            for path in paths:
                for batch in pq.ParquetFile(path, **READ).iter_batches(AT_ONCE):
                    keys, data = (column.to_pylist() for column in batch.columns)
                    yield [SettledProfile(entity, *row) for row in zip(keys, data, strict=True)]
