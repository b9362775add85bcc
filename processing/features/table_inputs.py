"""The columns of a table that aggregates read, encoded as `inputs` encodes single values."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa

from processing.arrays import Ints
from processing.contract import Contract
from processing.features.aggregated_events import NAN_BITS, Input
from processing.features.inputs import encode_value

Rows: TypeAlias = pa.Table | pa.RecordBatch


def encode_column(contract: Contract, each: Input, rows: Rows) -> Ints:
    """A column of a table, [n] int64: its values as `encode_value` encodes them, all missing if it is not there."""
    name = _table_column(contract, each.column)
    if name not in rows.schema.names:  # an earlier contract had it
        return np.full(len(rows), encode_value(contract, each, None), np.int64)
    column = rows.column(name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if each.encoding == "bits":
        numbers = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        return np.where(np.isnan(numbers), NAN_BITS, numbers.view(np.int64))
    encoded = column.dictionary_encode()
    values = [encode_value(contract, each, value) for value in encoded.dictionary.to_pylist()]
    missing = encode_value(contract, each, None)
    indices = np.asarray(encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False), np.int64)
    return np.array([*values, missing], np.int64)[indices]


def _table_column(contract: Contract, column: str) -> str:
    """The name of a column in tables."""
    return dict(zip(contract.key_columns, contract.key_names, strict=True)).get(column, column)
