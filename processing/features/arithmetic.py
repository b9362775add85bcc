"""Arithmetic with the same bits for columns and for single numbers: only what IEEE 754 rounds correctly everywhere.

A column is a float64 array, a number a Python float. Both know +, -, *, comparisons and abs; the operations that are
written differently are here. A value that is not known is NaN, and so is one that is not finite.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LARGEST = sys.float_info.max


class Arithmetic(NamedTuple):
    """Operations that differ for columns and numbers."""

    load: Callable[[Any], Any]  # the value as float64; NaN where it is not finite
    finite: Callable[[Any], Any]  # the value, NaN where it is not finite
    where: Callable[[Any, Any, Any], Any]
    divide: Callable[[Any, Any], Any]  # NaN for a division by zero
    sqrt: Callable[[Any], Any]  # NaN for a negative number
    floor: Callable[[Any], Any]  # never -0.0
    from_bits: Callable[[Any], Any]  # the value whose bits an integer has


def _finite_column(column: Any) -> Any:
    return np.where(np.isfinite(column), column, np.nan)


def _finite_number(number: float) -> float:
    return number if -LARGEST <= number <= LARGEST else math.nan


COLUMNS = Arithmetic(
    load=lambda column: _finite_column(np.asarray(column, np.float64)),
    finite=_finite_column,
    where=np.where,
    divide=lambda a, b: _finite_column(np.divide(a, b)),
    sqrt=np.sqrt,
    floor=lambda column: np.floor(column) + 0.0,
    from_bits=lambda column: np.ascontiguousarray(column, np.int64).view(np.float64),
)
NUMBERS = Arithmetic(
    load=lambda number: _finite_number(float(number)),
    finite=_finite_number,
    where=lambda condition, yes, no: yes if condition else no,
    divide=lambda a, b: _finite_number(a / b) if b else math.nan,
    sqrt=lambda number: math.sqrt(number) if number >= 0.0 else math.nan,
    floor=lambda number: math.floor(number) + 0.0 if number == number else math.nan,
    from_bits=lambda integer: float(np.int64(integer).view(np.float64)),
)
