"""Evaluates the conditions of Condition steps."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from processing.errors import BadInput

Resolve = Callable[[Any], Any]

ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}


def is_met(condition: Mapping[str, Any], resolve: Resolve) -> bool:
    """Whether a condition is met; `resolve` gives the value of a pipeline variable.

    Raises BadInput for values that cannot be compared, and for a condition type that SageMaker does not have.
    """
    kind = condition["Type"]
    match kind:
        case "Equals":
            return _equal(resolve(condition["LeftValue"]), resolve(condition["RightValue"]))
        case "In":
            value = resolve(condition["QueryValue"])
            return any(_equal(value, resolve(each)) for each in condition["Values"])
        case "Not":
            return not is_met(condition.get("Condition", condition.get("Expression")), resolve)
        case "And":
            return all(is_met(each, resolve) for each in condition["Conditions"])
        case "Or":
            return any(is_met(each, resolve) for each in condition["Conditions"])
    if kind not in ORDERINGS:
        raise BadInput(f"unknown condition type {kind!r}; known: Equals, In, Not, And, Or, {', '.join(ORDERINGS)}")
    left, right = resolve(condition["LeftValue"]), resolve(condition["RightValue"])
    if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        raise BadInput(f"{kind} cannot compare {left!r} with {right!r}: it needs two numbers or two texts")
    return ORDERINGS[kind](left, right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)
