"""The values that aggregates read, encoded as integers. `table_inputs` does the same for columns of a table."""

import math
from typing import Any

from processing.contract import Contract
from processing.features.aggregated_events import Input, float_bits, text_hash


def encode_value(contract: Contract, each: Input, value: Any) -> int:
    """One value of a column, as `Input.encoding` says."""
    if each.encoding == "bits":
        return float_bits(math.nan if value is None else float(value))
    text = value if isinstance(value, str | None) else str(value)
    if each.encoding == "hash":
        return text_hash(text)
    known = contract.categorical[each.column]
    return known.index(text) if text in known else -1
