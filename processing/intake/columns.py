"""Parsing a raw column: text, numbers and labels, whatever type the file has given it. Times are in `times`.

Each function returns the values (null where there is none) and a mask of the values that cannot be read.
A column is parsed as a whole; only if that fails, value by value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from processing.intake.limits import CELL_BYTES

Mask = NDArray[np.bool_]
LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
# Below these each whole number is exact; above them different ids become the same float.
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}


def as_mask(values: pa.Array) -> Mask:
    """A column of booleans as a mask; null is false."""
    return np.asarray(pc.fill_null(values, False), bool)


def parse_each(values: pa.Array, parse: Callable[[Any], Any], kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """A column parsed value by value: null and marked bad where that fails."""
    parsed, bad = [], np.zeros(len(values), bool)
    for i, value in enumerate(values.to_pylist()):
        try:
            parsed.append(None if value is None else parse(value))
        except (ValueError, OverflowError):  # UnicodeDecodeError is a ValueError
            parsed.append(None)
            bad[i] = True
    return pa.array(parsed, kind), bad


def without_long_values(raw: pa.Array) -> tuple[pa.Array, Mask]:
    """A column with null for each value longer than CELL_BYTES, and a mask of these.

    A dictionary is decoded only once its values are known to be short.
    """
    decoded, indices = (raw.dictionary, raw.indices) if pa.types.is_dictionary(raw.type) else (raw, None)
    long = np.zeros(len(raw), bool)
    if is_text(decoded.type):
        over = pc.greater(pc.binary_length(decoded), CELL_BYTES)
        decoded = pc.if_else(pc.fill_null(over, False), pa.scalar(None, decoded.type), decoded)
        long = as_mask(over if indices is None else over.take(indices))
    return (decoded if indices is None else decoded.take(indices)), long


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text or bytes."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def as_text(raw: pa.Array) -> tuple[pa.Array, Mask]:
    """A column as trimmed text, empty values as null. Unreadable: what is not UTF-8, and inexact floats."""
    bad = np.zeros(len(raw), bool)
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_floating(raw.type):  # a tool may have turned an id into 596.0, or an empty one into NaN
        wide = raw.cast(pa.float64())
        bad = as_mask(pc.greater_equal(pc.abs(wide), float(EXACT[raw.type])))
        missing = pc.or_(pc.is_nan(wide), pa.array(bad))
        wide, raw = (pc.if_else(missing, pa.scalar(None, values.type), values) for values in (wide, raw))
        whole = pc.all(pc.equal(wide, pc.floor(wide)), min_count=0).as_py()
        raw = wide.cast(pa.int64(), safe=False) if whole else raw
    if is_text(raw.type):
        try:
            raw = raw.cast(pa.large_binary()).cast(pa.large_string())  # checks every byte
        except pa.ArrowInvalid:
            raw, bad = parse_each(raw.cast(pa.large_binary()), lambda value: value.decode(), pa.string())
    text = pc.utf8_trim_whitespace(raw.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text), bad


def as_number(raw: pa.Array) -> tuple[pa.Array, Mask]:
    """A column as float64, empty values and NaN as null. Unreadable: what is not a finite number."""
    if pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type) or pa.types.is_decimal(raw.type):
        values, bad = raw.cast(pa.float64(), safe=False), np.zeros(len(raw), bool)
    else:
        text, bad = as_text(raw)
        try:
            values = text.cast(pa.float64())
        except pa.ArrowInvalid:
            values, unparsed = parse_each(text, float, pa.float64())
            bad |= unparsed
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    infinite = as_mask(pc.is_inf(values))
    return pc.if_else(pa.array(infinite), pa.scalar(None, pa.float64()), values), bad | infinite


def as_label(raw: pa.Array) -> tuple[pa.Array, Mask]:
    """A column as 1, 0 or null. Unreadable: what is not in LABELS."""
    text, bad = as_text(raw)
    if pa.types.is_boolean(raw.type):
        return raw.cast(pa.int32()), bad
    lower = pc.utf8_lower(text)
    index = pc.index_in(lower, pa.array(list(LABELS)))
    values = pc.take(pa.array(list(LABELS.values()), pa.int32()), index)
    return values, bad | as_mask(pc.and_(pc.is_null(values), pc.is_valid(text)))
