"""Features of a table of transactions: the one way from rows to features and back to a table, with or without Spark.

The rows have the columns of `processing.tables.schemas.transaction_schema`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from processing.arrays import Floats, Ints
from processing.contract import Entity
from processing.features.contract_windows import fraud_tile
from processing.features.feature_set import FeatureSet
from processing.features.fraud_windows import NEVER, Labels
from processing.features.table_inputs import Rows, encode_column
from processing.features.windows import Events


def time_us(rows: Rows) -> Ints:
    """The event times in microseconds since 1970, [n]."""
    return np.asarray(rows.column("event_time").cast(pa.int64()))


def entity_codes(names: Sequence[str], rows: Rows) -> Ints:
    """A number for each row's entity, [n], below n and equal for equal ones. `names` are those of its columns."""
    first, *others = (_codes(rows.column(name)) for name in names)
    for codes in others:
        first = np.unique(first * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    return first


def window_state(entity: Entity, features: FeatureSet, rows: Rows) -> Ints:
    """The state of one entity's windows, [n, len(windows.state_names)].

    The rows hold all events, and all frauds by the time they became known, that the windows reach.
    """
    contract, windows = features.contract, features.windows[entity.name]
    times, amount = time_us(rows), numbers(rows.column("amount_minor"))
    codes = entity_codes(contract.key_names_of(entity), rows)
    columns = {each: encode_column(contract, each, rows) for each in windows.inputs}
    fraud = numbers(rows.column("is_fraud").fill_null(0)) > 0
    known = fraud_tile(windows, times[fraud], None)
    labels = Labels(codes[fraud], known, np.full(len(known), NEVER), amount[fraud])
    return windows.states(Events(codes, times, amount, columns), labels)


def window_states(features: FeatureSet, rows: Rows) -> Ints:
    """The state of all windows, [n, len(features.state_names)]."""
    states = [window_state(entity, features, rows) for entity in features.contract.entities]
    return np.column_stack([np.empty((len(rows), 0), np.int64), *states])


def stored_states(features: FeatureSet, rows: Rows) -> Ints:
    """The state of all windows from columns of these names, [n, len(features.state_names)]."""
    state = np.zeros((len(rows), len(features.state_names)), np.int64)
    for i, name in enumerate(features.state_names):
        state[:, i] = numbers(rows.column(name))
    return state


def extra_columns(features: FeatureSet, rows: Rows) -> Floats:
    """The contract's extra columns, as `FeatureSet.encode` gives them. One that the rows lack counts as missing."""
    has = rows.schema.names
    columns = {name: numbers(rows.column(name)) for name in features.contract.numeric if name in has}
    columns |= {name: rows.column(name).to_pylist() for name in features.contract.categorical if name in has}
    return features.encode(columns, len(rows))


def compute_rows(features: FeatureSet, rows: Rows, state: Ints) -> Floats:
    """The features of the rows, [n, len(features.names)]. `state` is [n, len(features.state_names)]."""
    amount = numbers(rows.column("amount_minor"))
    return features.compute(amount, time_us(rows), state, extra_columns(features, rows))


def feature_table(features: FeatureSet, rows: Rows, values: Floats, schema: pa.Schema) -> pa.Table:
    """The values of `compute_rows` as a table of the schema; its other columns are those of the rows."""
    computed = {name: pa.array(values[:, i]) for i, name in enumerate(features.names)}
    columns = [computed[name] if name in computed else rows.column(name) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _codes(keys: pa.Array | pa.ChunkedArray) -> Ints:
    keys = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    return numbers(keys.dictionary_encode().indices).astype(np.int64)


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers without missing values, [n]."""
    return np.asarray(column.to_numpy(zero_copy_only=False))
