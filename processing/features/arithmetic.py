"""The operations of features, for whole columns and for single numbers, with the same bits.

Only operations that IEEE 754 rounds correctly: +, -, *, / and square root. The same integers then give the same float64
on every machine, for one row or a million.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Arithmetic(NamedTuple):
    """Operations that differ for columns and single numbers. Results of division by zero are undefined; mask them."""

    where: Callable[[Any, Any, Any], Any]
    divide: Callable[[Any, Any], Any]
    sqrt: Callable[[Any], Any]
    real: Callable[[Any], Any]  # an integer as float64, rounded to the nearest
    from_bits: Callable[[Any], Any]  # the float64 with the bits of an integer


COLUMNS = Arithmetic(
    np.where,
    np.divide,
    np.sqrt,
    lambda integers: np.asarray(integers, np.float64),
    lambda integers: np.ascontiguousarray(integers, np.int64).view(np.float64),
)
NUMBERS = Arithmetic(
    lambda condition, yes, no: yes if condition else no,
    lambda a, b: a / b if b else math.nan,
    math.sqrt,
    float,
    lambda integer: float(np.int64(integer).view(np.float64)),
)
