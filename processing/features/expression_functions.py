"""The operators and functions of declared features, each exact for columns and for numbers alike.

Numbers: NaN is a value that is not known, and an operation on one gives one. A result that is not finite, a division by
zero and the root of a negative number are NaN too. `min` and `max` give the first of equal operands, such as 0.0 and
-0.0.

Conditions are TRUE, FALSE or UNKNOWN, as in SQL: a comparison with NaN is UNKNOWN; `and` is the lesser of its operands
and `or` the greater, so FALSE and UNKNOWN is FALSE, TRUE or UNKNOWN is TRUE; not UNKNOWN is UNKNOWN. `where` gives NaN
for an UNKNOWN condition; the value that it does not choose may be NaN.
"""

import math
import operator
from collections.abc import Callable, Mapping
from enum import Enum
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

from processing.features.arithmetic import Arithmetic
from processing.features.distance import distance_km

FALSE, UNKNOWN, TRUE = 0.0, 0.5, 1.0

Apply: TypeAlias = Callable[..., Any]  # from the operands' values, columns or numbers, to the result's
Make: TypeAlias = Callable[[Arithmetic], Apply]


class Kind(Enum):
    """What an expression's part stands for."""

    NUMBER = "a number"
    CONDITION = "a condition"
    TEXT = "a text"


class Operation(NamedTuple):
    """An operator or function: how it is written, what it takes and gives, and how it is computed."""

    usage: str
    operands: tuple[Kind, ...]
    result: Kind
    make: Make
    more: bool = False  # whether further operands like the last one may follow


def _finite(combine: Apply) -> Make:
    """An operation whose result may be too large."""

    def make(arithmetic: Arithmetic) -> Apply:
        finite = arithmetic.finite
        return lambda a, b: finite(combine(a, b))

    return make


def _compare(test: Apply) -> Make:
    def make(arithmetic: Arithmetic) -> Apply:
        where = arithmetic.where
        return lambda a, b: where((a != a) | (b != b), UNKNOWN, test(a, b) + 0.0)

    return make


def _first_by(test: Apply) -> Make:
    """The operand that comes first by the test; NaN if one is NaN."""

    def make(arithmetic: Arithmetic) -> Apply:
        where = arithmetic.where

        def first(a: Any, b: Any) -> Any:
            return where(test(b, a) | (b != b), b, a)

        return lambda *values: reduce(first, values)

    return make


def _choose(arithmetic: Arithmetic) -> Apply:
    where = arithmetic.where
    return lambda condition, yes, no: where(condition == TRUE, yes, where(condition == FALSE, no, math.nan))


def _distance(arithmetic: Arithmetic) -> Apply:
    return lambda lat1, lon1, lat2, lon2: distance_km(lat1, lon1, lat2, lon2, arithmetic)


def _by(make: Apply) -> Make:
    """An operation that is written alike for columns and numbers."""
    return lambda _: make


_NUMBER, _CONDITION = Kind.NUMBER, Kind.CONDITION
_PAIR, _CONDITIONS = (_NUMBER, _NUMBER), (_CONDITION, _CONDITION)

OPERATORS: Mapping[str, Operation] = {
    "or": Operation("a or b", _CONDITIONS, _CONDITION, _first_by(operator.gt)),
    "and": Operation("a and b", _CONDITIONS, _CONDITION, _first_by(operator.lt)),
    "not": Operation("not a", (_CONDITION,), _CONDITION, _by(lambda a: 1.0 - a)),
    "<": Operation("a < b", _PAIR, _CONDITION, _compare(operator.lt)),
    "<=": Operation("a <= b", _PAIR, _CONDITION, _compare(operator.le)),
    ">": Operation("a > b", _PAIR, _CONDITION, _compare(operator.gt)),
    ">=": Operation("a >= b", _PAIR, _CONDITION, _compare(operator.ge)),
    "==": Operation("a == b", _PAIR, _CONDITION, _compare(operator.eq)),
    "!=": Operation("a != b", _PAIR, _CONDITION, _compare(operator.ne)),
    "+": Operation("a + b", _PAIR, _NUMBER, _finite(operator.add)),
    "-": Operation("a - b", _PAIR, _NUMBER, _finite(operator.sub)),
    "*": Operation("a * b", _PAIR, _NUMBER, _finite(operator.mul)),
    "/": Operation("a / b", _PAIR, _NUMBER, lambda arithmetic: arithmetic.divide),
    "negative": Operation("-a", (_NUMBER,), _NUMBER, _by(operator.neg)),
}
FUNCTIONS: Mapping[str, Operation] = {
    "sqrt": Operation("sqrt(a)", (_NUMBER,), _NUMBER, lambda arithmetic: arithmetic.sqrt),
    "abs": Operation("abs(a)", (_NUMBER,), _NUMBER, _by(abs)),
    "floor": Operation("floor(a)", (_NUMBER,), _NUMBER, lambda arithmetic: arithmetic.floor),
    "min": Operation("min(a, b, ...)", _PAIR, _NUMBER, _first_by(operator.lt), more=True),
    "max": Operation("max(a, b, ...)", _PAIR, _NUMBER, _first_by(operator.gt), more=True),
    "where": Operation("where(condition, yes, no)", (_CONDITION, _NUMBER, _NUMBER), _NUMBER, _choose),
    "distance_km": Operation("distance_km(lat1, lon1, lat2, lon2)", (_NUMBER,) * 4, _NUMBER, _distance),
}
OPERATIONS: Mapping[str, Operation] = {**OPERATORS, **FUNCTIONS}
