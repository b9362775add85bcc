"""The features of many transactions at once, in Spark, by the same kernel and the same arithmetic as online."""

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from processing.contract import Contract
from processing.features.feature_set import FeatureSet
from processing.features.table_features import compute_rows, feature_table, stored_states, time_us, window_state
from processing.features.windows import DAY_US, Windows
from processing.tables.schemas import features_schema, transaction_schema

Batches = Iterable[pa.RecordBatch]
BATCH_ROWS = 100_000  # returned to Spark at a time


def compute_features(transactions: DataFrame, contract: Contract, days: Collection[int], partitions: int) -> DataFrame:
    """The rows of the features table for the transactions of `days`, and their `day`.

    `transactions` covers those days and the lookback before them. For each entity, rows of one key come together in a
    partition, and one pass of the kernel adds the state of its windows; the last pass turns states into features.
    """
    features = FeatureSet(contract)
    schema = transaction_schema(contract)
    final = features_schema(contract).append(pa.field("day", pa.int32()))
    finish = _finish(features, frozenset(days), final)
    rows = transactions
    for number, entity in enumerate(contract.entities, 1):
        name, keys, windows = entity.name, contract.key_names_of(entity), features.windows[entity.name]
        added = [pa.field(f"{name}_{column}", pa.int64()) for column in windows.columns]
        schema = pa.schema([*schema, *added])
        last = number == len(features.windows)
        step = _add_state(keys, windows, schema, finish if last else None)
        rows = rows.repartition(partitions, *keys).mapInArrow(step, from_arrow_schema(final if last else schema))
    return rows if features.windows else rows.mapInArrow(finish, from_arrow_schema(final))


def _add_state(
    keys: Sequence[str], windows: Windows, schema: pa.Schema, then: Callable[[Batches], Batches] | None
) -> Callable[[Batches], Batches]:
    def run(batches: Batches) -> Batches:
        held = [batch for batch in batches if len(batch)]
        if not held:  # an entity with fewer keys than tasks leaves some tasks without a row
            return
        table = pa.Table.from_batches(held)
        state = window_state(keys, windows, table)
        columns = [*table.columns, *(pa.array(state[:, i]) for i in range(state.shape[1]))]
        widened = pa.Table.from_arrays(columns, schema=schema).to_batches(BATCH_ROWS)
        yield from then(widened) if then else widened

    return run


def _finish(features: FeatureSet, days: frozenset[int], final: pa.Schema) -> Callable[[Batches], Batches]:
    wanted = np.array(sorted(days), np.int64)

    def run(batches: Batches) -> Batches:
        for batch in batches:
            table = pa.Table.from_batches([batch])
            table = table.filter(np.isin(time_us(table) // DAY_US, wanted))
            if not len(table):
                continue
            table = table.append_column("day", pa.array((time_us(table) // DAY_US).astype(np.int32)))
            values = compute_rows(features, table, stored_states(features, table))
            yield from feature_table(features, table, values, final).combine_chunks().to_batches()

    return run
