"""The features of many transactions at once, in Spark, by the same kernel and the same arithmetic as online."""

from collections.abc import Callable, Collection, Iterable

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from processing.contract import Contract
from processing.features.feature_set import FeatureSet
from processing.features.windows import DAY_US, Windows, sawtooth
from processing.tables.schemas import features_schema, transaction_schema

Batches = Iterable[pa.RecordBatch]
ROWS = 100_000  # a batch handed back to Spark


def features_of(transactions: DataFrame, contract: Contract, days: Collection[int], partitions: int) -> DataFrame:
    """The rows of the features table for the transactions of `days`, with their `day`.

    `transactions` has those days and the look-back before them. For each entity the rows are brought together by
    its value, and one pass of the kernel adds the state of its windows; the last pass turns state into features.
    """
    features = FeatureSet(contract)
    schema = transaction_schema(contract)
    final = features_schema(contract).append(pa.field("day", pa.int32()))
    finish = _finish(features, frozenset(days), final)
    rows = transactions
    for place, (name, windows) in enumerate(features.windows.items(), 1):
        added = [pa.field(f"{name}_{column}", pa.int64()) for column in windows.columns]
        schema = pa.schema([*schema, *added])
        last = place == len(features.windows)
        step = _step(name, windows, schema, finish if last else None)
        rows = rows.repartition(partitions, name).mapInArrow(step, from_arrow_schema(final if last else schema))
    return rows if features.windows else rows.mapInArrow(finish, from_arrow_schema(final))


def _step(
    name: str, windows: Windows, schema: pa.Schema, then: Callable[[Batches], Batches] | None
) -> Callable[[Batches], Batches]:
    def run(batches: Batches) -> Batches:
        held = [batch for batch in batches if len(batch)]
        if not held:  # an entity with fewer values than there are tasks leaves some of them without a row
            return
        table = pa.Table.from_batches(held)
        entity = table.column(name).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        fraud = table.column("is_fraud").fill_null(0).to_numpy().astype(np.int64)
        state = sawtooth(windows, entity, _micros(table), table.column("amount_minor").to_numpy(), fraud)
        columns = [*table.columns, *(pa.array(state[:, i]) for i in range(state.shape[1]))]
        widened = pa.Table.from_arrays(columns, schema=schema).to_batches(ROWS)
        yield from then(widened) if then else widened

    return run


def _finish(features: FeatureSet, days: frozenset[int], final: pa.Schema) -> Callable[[Batches], Batches]:
    wanted = np.array(sorted(days), np.int64)

    def run(batches: Batches) -> Batches:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            table = table.filter(np.isin(_micros(table) // DAY_US, wanted))
            if not len(table):
                continue
            time_us = _micros(table)
            state = np.zeros((len(table), len(features.state_names)), np.int64)
            for i, name in enumerate(features.state_names):
                state[:, i] = table.column(name).to_numpy()
            extras = features.encode_table(table)
            values = features.compute(table.column("amount_minor").to_numpy(), time_us, state, extras)
            computed = {name: pa.array(values[:, i]) for i, name in enumerate(features.names)}
            computed["day"] = pa.array((time_us // DAY_US).astype(np.int32))
            columns = [computed[name] if name in computed else table.column(name) for name in final.names]
            yield from pa.Table.from_arrays(columns, schema=final).combine_chunks().to_batches()

    return run


def _micros(table: pa.Table) -> np.ndarray:
    return np.asarray(table.column("event_time").cast(pa.int64()).to_numpy())
