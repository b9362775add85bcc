"""Arithmetic with the same bits for columns and for single numbers: only what IEEE 754 rounds correctly everywhere.

A column is a float64 array, a number a Python float. Both know +, -, *, comparisons and abs; the operations that are
written differently are here. A value that is not known is NaN, and so is one that is not finite.
"""

import struct
from collections.abc import Callable
from math import floor, nan, sqrt
from typing import Any, NamedTuple

import numpy as np

NAN = nan


class Arithmetic(NamedTuple):
    """Operations that differ for columns and numbers."""

    load: Callable[[Any], Any]  # the value as float64; NaN where it is not finite
    real: Callable[[Any], Any]  # an integer as float64
    finite: Callable[[Any], Any]  # the value, NaN where it is not finite
    where: Callable[[Any, Any, Any], Any]
    divide: Callable[[Any, Any], Any]  # NaN for a division by zero
    ratio: Callable[[Any, Any, Any], Any]  # the second by the third operand where the first, a condition, holds, or NaN
    sqrt: Callable[[Any], Any]  # NaN for a negative number
    floor: Callable[[Any], Any]  # never -0.0
    from_bits: Callable[[Any], Any]  # the value whose bits an integer has


def _finite_column(column: Any) -> Any:
    return np.where(np.isfinite(column), column, np.nan)


def _divide_columns(a: Any, b: Any) -> Any:
    return _finite_column(np.divide(a, b))


# The functions of numbers call no other: the API computes more than a hundred features for each payment. A number less
# itself is zero if it is finite, else NaN.


def _finite_number(number: float) -> float:
    return number if number - number == 0.0 else NAN


def _divide_numbers(a: float, b: float) -> float:
    if not b:
        return NAN
    quotient = a / b
    return quotient if quotient - quotient == 0.0 else NAN


def _ratio_of_numbers(condition: bool, a: float, b: float) -> float:
    if not condition or not b:
        return NAN
    quotient = a / b
    return quotient if quotient - quotient == 0.0 else NAN


_INTEGER, _FLOAT = struct.Struct("<q"), struct.Struct("<d")


COLUMNS = Arithmetic(
    load=lambda column: _finite_column(np.asarray(column, np.float64)),
    real=lambda column: np.asarray(column, np.float64),
    finite=_finite_column,
    where=np.where,
    divide=_divide_columns,
    ratio=lambda condition, a, b: np.where(condition, _divide_columns(a, b), np.nan),
    sqrt=np.sqrt,
    floor=lambda column: np.floor(column) + 0.0,
    from_bits=lambda column: np.ascontiguousarray(column, np.int64).view(np.float64),
)
NUMBERS = Arithmetic(
    load=lambda number: _finite_number(float(number)),
    real=float,
    finite=_finite_number,
    where=lambda condition, yes, no: yes if condition else no,
    divide=_divide_numbers,
    ratio=_ratio_of_numbers,
    sqrt=lambda number: sqrt(number) if number >= 0.0 else NAN,
    floor=lambda number: floor(number) + 0.0 if number == number else NAN,
    from_bits=lambda integer: _FLOAT.unpack(_INTEGER.pack(integer))[0],
)
