"""Features of a table of transactions: the one way from rows to features and back to a table, with or without Spark.

The rows have the columns of `processing.tables.schemas.transaction_schema`.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.features.feature_set import FeatureSet
from processing.features.windows import Ints, Windows, sawtooth

Rows: TypeAlias = pa.Table | pa.RecordBatch


def time_us(rows: Rows) -> Ints:
    """The event times in microseconds since 1970, [n]."""
    return np.asarray(rows.column("event_time").cast(pa.int64()))


def entity_codes(names: Sequence[str], rows: Rows) -> Ints:
    """A number for each row's entity, [n], below n and equal for equal ones. `names` are those of its columns."""
    first, *others = (_codes(rows.column(name)) for name in names)
    for codes in others:
        first = np.unique(first * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    return first


def window_state(names: Sequence[str], windows: Windows, rows: Rows) -> Ints:
    """The state of one entity's windows, [n, len(windows.columns)]. The rows hold all events that the windows reach.

    `names` are those of the entity's columns: `contract.key_names_of(entity)`.
    """
    codes = entity_codes(names, rows)
    fraud = _numbers(rows.column("is_fraud").fill_null(0)).astype(np.int64)
    return sawtooth(windows, codes, time_us(rows), _numbers(rows.column("amount_minor")), fraud)


def window_states(features: FeatureSet, rows: Rows) -> Ints:
    """The state of all windows, [n, len(features.state_names)]."""
    contract = features.contract
    states = [
        window_state(contract.key_names_of(entity), windows, rows)
        for entity, windows in zip(contract.entities, features.windows.values(), strict=True)
    ]
    return np.column_stack([np.empty((len(rows), 0), np.int64), *states])


def stored_states(features: FeatureSet, rows: Rows) -> Ints:
    """The state of all windows from columns of these names, [n, len(features.state_names)]."""
    state = np.zeros((len(rows), len(features.state_names)), np.int64)
    for i, name in enumerate(features.state_names):
        state[:, i] = _numbers(rows.column(name))
    return state


def extra_columns(features: FeatureSet, rows: Rows) -> Floats:
    """The contract's extra columns, as `FeatureSet.encode` gives them. One that the rows lack counts as missing."""
    has = rows.schema.names
    columns = {name: _numbers(rows.column(name)) for name in features.contract.numeric if name in has}
    columns |= {name: rows.column(name).to_pylist() for name in features.contract.categorical if name in has}
    return features.encode(columns, len(rows))


def compute_rows(features: FeatureSet, rows: Rows, state: Ints) -> Floats:
    """The features of the rows, [n, len(features.names)]. `state` is [n, len(features.state_names)]."""
    amount = _numbers(rows.column("amount_minor"))
    return features.compute(amount, time_us(rows), state, extra_columns(features, rows))


def feature_table(features: FeatureSet, rows: Rows, values: Floats, schema: pa.Schema) -> pa.Table:
    """The values of `compute_rows` as a table of the schema; its other columns are those of the rows."""
    computed = {name: pa.array(values[:, i]) for i, name in enumerate(features.names)}
    columns = [computed[name] if name in computed else rows.column(name) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _codes(keys: pa.Array | pa.ChunkedArray) -> Ints:
    keys = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    return _numbers(keys.dictionary_encode().indices).astype(np.int64)


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))
