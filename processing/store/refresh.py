"""Bring the online store up to date with the tables: tiles up to the horizon."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from processing.contract import CLOCK_SKEW, Contract
from processing.durations import DAY_US, HOUR_US
from processing.features.entity_keys import entity_key
from processing.features.inputs import encode_column
from processing.features.state_plan import StatePlan
from processing.features.table_features import entity_codes, numbers
from processing.features.tiles import Column as TileColumn
from processing.features.windows import EntityWindows, Events
from processing.storage.spark_files import local_parquet_files
from processing.store.decisions import Event
from processing.store.horizon import settled_up_to
from processing.store.interface import OnlineStore
from processing.store.refresh_data import Reports, StoredTile
from processing.store.tables_comparison import compare_with_tables
from processing.tables.parquet import READ

SPARE_HOURS = 2 * int(CLOCK_SKEW.total_seconds()) // 3600  # the horizon may move back so far without losing a decision
TILES_AT_ONCE = 20_000


def refresh_store(
    store: OnlineStore,
    transactions: DataFrame,
    contract: Contract,
    reports: Reports,
    scratch: Path | str,
    *,
    everything: DataFrame | None = None,
    now: datetime | None = None,
) -> int:
    """Set the store's tiles from `transactions`, those from `first_day` on; returns how many were set.

    Decided transactions that the tables lack are counted too. To find them, pass all transactions as `everything`,
    older ones included. Events of the last hours, which may not be over, are passed to the store one by one.
    """
    rows = transactions.withColumn("hour", _hour(F.unix_micros("event_time")))
    now_hour = int((now or datetime.now(UTC)).timestamp()) // 3600
    labelled_us = F.max(F.when(F.col("is_fraud").isNotNull(), F.unix_micros("event_time")))
    hours = rows.groupBy("hour").agg(F.count("*").alias("rows"), labelled_us.alias("labelled_us")).collect()
    counts = {row["hour"]: row["rows"] for row in hours}
    labelled = max((row["labelled_us"] for row in hours if row["labelled_us"] is not None), default=None)
    if labelled is None and everything is not None:
        (labelled,) = everything.agg(labelled_us).first() or (None,)
    horizon = settled_up_to(counts, contract.lookback_hours, now_hour)
    since_us = (horizon - contract.lookback_hours - SPARE_HOURS) * HOUR_US
    comparison, lacking = compare_with_tables(
        store.recorded_events(since_us), reports, transactions if everything is None else everything, contract, scratch
    )
    keys, plan = contract.key_names, StatePlan(contract)
    extras = plan.event_columns
    us = F.unix_micros("event_time").alias("us")
    data = rows.select("transaction_id", us, "hour", "amount_minor", "is_fraud", *keys, *extras)
    counted = data if lacking is None else data.unionByName(lacking.withColumn("hour", _hour(F.col("us"))))
    settled = counted.where(F.col("hour").between(horizon - contract.lookback_hours, horizon - 1))
    addresses = [
        _write_tiles(settled, plan, index, horizon, f"{scratch}/tiles-{index}") for index in range(len(plan.entities))
    ]
    tail = _events(data.where(F.col("hour") >= horizon), keys, extras)
    frauds = _events(counted.where("is_fraud = 1"), keys, extras)
    count = 0

    def batches() -> Iterator[list[StoredTile]]:
        nonlocal count
        for batch in _read_tiles(addresses, plan):
            count += len(batch)
            yield batch

    store.refresh(horizon, batches(), tail, reports.mark, frauds, comparison, labelled or 0)
    return count


def tile_levels(windows: EntityWindows) -> list[int]:
    """The levels whose tiles a refresh sets: not the granule, and not days, whose tiles are those of their hours."""
    return [level for level, size in enumerate(windows.levels) if level and size != DAY_US]


def _write_tiles(rows: DataFrame, plan: StatePlan, entity: int, horizon: int, address: str) -> str:
    """Write an entity's tiles before the hour `horizon` to Parquet files; returns their address.

    Their columns are the entity's key columns, level, number and the tile's values.
    """
    names = plan.contract.key_names_of(plan.contract.entities[entity])
    windows = plan.windows[entity]
    fields = [pa.field(name, pa.string()) for name in names] + [pa.field("level", pa.int64())]
    fields += [pa.field("number", pa.int64()), *(pa.field(each.name, _type(each)) for each in windows.tile_columns)]
    schema, contract = pa.schema(fields), plan.contract

    def run(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        held = [batch for batch in batches if len(batch)]
        if held:
            yield from tiles_table(contract, windows, names, pa.Table.from_batches(held), horizon, schema).to_batches()

    rows.repartition(*names).mapInArrow(run, from_arrow_schema(schema)).write.parquet(address, mode="overwrite")
    return address


def tiles_table(
    contract: Contract, windows: EntityWindows, names: Sequence[str], rows: pa.Table, horizon: int, schema: pa.Schema
) -> pa.Table:
    """The tiles of transactions before the hour `horizon`, as far back as a window reaches, as a table of the schema."""
    codes = entity_codes(names, rows)
    _, first = np.unique(codes, return_index=True)
    columns = {each: encode_column(contract, each, rows) for each in windows.inputs}
    events = Events(codes, numbers(rows.column("us")), numbers(rows.column("amount_minor")), columns)
    keys = [rows.column(name).take(pa.array(first)) for name in names]
    tables = []
    for level in tile_levels(windows):
        size = windows.levels[level]
        end = horizon * HOUR_US // size
        number = events.time_us // size
        some = np.flatnonzero((number >= end - _reach(windows, level)) & (number < end))
        chosen = {name: each[some] for name, each in columns.items()}
        part = Events(codes[some], events.time_us[some], events.amount[some], chosen)
        tiles = windows.tiles_of(part, size)
        tables.append(
            pa.Table.from_arrays(
                [
                    *(key.take(pa.array(tiles.entity)) for key in keys),
                    pa.array(np.full(len(tiles.number), level)),
                    pa.array(tiles.number),
                    *(
                        pa.array(each, _type(column))
                        for column, each in zip(windows.tile_columns, tiles.columns, strict=True)
                    ),
                ],
                schema=schema,
            )
        )
    return pa.concat_tables(tables)


def _reach(windows: EntityWindows, level: int) -> int:
    """How many tiles of a level a window reaches back, as hours for days too."""
    reach = windows.reach[level]
    if windows.levels[level] == HOUR_US and windows.levels[-1] == DAY_US:
        reach = max(reach, (windows.reach[-1] + 1) * (DAY_US // HOUR_US))
    return reach


def _type(column: TileColumn) -> pa.DataType:
    return pa.binary() if isinstance(column.neutral, bytes) else pa.int64()


def _read_tiles(addresses: Sequence[str], plan: StatePlan) -> Iterator[list[StoredTile]]:
    """The tiles of all entities; the addresses are in the order of the contract."""
    for entity, address in enumerate(addresses):
        keys = len(plan.contract.entities[entity].columns)
        with local_parquet_files(address) as paths:
            for path in paths:
                for batch in pq.ParquetFile(path, **READ).iter_batches(TILES_AT_ONCE):
                    columns = [column.to_pylist() for column in batch.columns]
                    names = map(entity_key, zip(*columns[:keys], strict=True))
                    level, number, *values = columns[keys:]
                    yield [
                        StoredTile(entity, *row)
                        for row in zip(names, level, number, zip(*values, strict=True), strict=True)
                    ]


def _hour(us: Column) -> Column:
    return F.floor(us / HOUR_US).cast("long")


def _events(rows: DataFrame, keys: Sequence[str], extras: Sequence[str]) -> list[Event]:
    return [
        Event(
            row["transaction_id"],
            row["us"],
            row["amount_minor"],
            tuple(row[key] for key in keys),
            tuple((name, row[name]) for name in extras),
        )
        for row in rows.collect()
    ]
