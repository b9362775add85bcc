"""Compiles a parsed expression, once, to functions of columns and of numbers that give the same bits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from processing.arrays import Floats
from processing.features.arithmetic import COLUMNS, NUMBERS, Arithmetic
from processing.features.expression_functions import OPERATIONS
from processing.features.expression_tree import Category, Expression, Literal, Name, Node
from processing.features.expressions import check

Evaluate: TypeAlias = Callable[[Any], Any]  # from the values of all names, in order, to the node's value


@dataclass(frozen=True)
class CompiledExpression:
    """An expression over values in the order of `names`.

    The value of a name in `categories` is the position of the transaction's category among its values there, NaN if it
    is missing or not one of them, as `FeatureSet.encode` gives it. Raises BadInput as `check` does.
    """

    expression: Expression
    names: tuple[str, ...]
    categories: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        numbers = [name for name in self.names if name not in self.categories]
        check(self.expression, numbers, {name: self.categories[name] for name in self.names if name in self.categories})

    def __reduce__(self) -> tuple[Any, ...]:
        """Compiled anew in another process: functions made at run time do not travel."""
        return CompiledExpression, (self.expression, self.names, self.categories)

    def of_columns(self, values: Sequence[Floats]) -> Floats:
        """The values of n transactions, [n] float64: finite, or NaN where unknown. `values`: an [n] column a name."""
        with np.errstate(all="ignore"):
            return self._of_columns(values)  # type: ignore[no-any-return]

    def of_numbers(self, values: Sequence[float]) -> float:
        """The value of one transaction, with the bits that `of_columns` gives. `values`: a number a name."""
        return self._of_numbers(values)  # type: ignore[no-any-return]

    @cached_property
    def _of_columns(self) -> Evaluate:
        return self._compiled(COLUMNS)

    @cached_property
    def _of_numbers(self) -> Evaluate:
        return self._compiled(NUMBERS)

    def _compiled(self, arithmetic: Arithmetic) -> Evaluate:
        operations = {name: operation.make(arithmetic) for name, operation in OPERATIONS.items()}
        finite, load = arithmetic.finite, arithmetic.load

        def load_name(name: str) -> Evaluate:
            place = self.names.index(name)
            return lambda values: load(values[place])

        def build(node: Node) -> Evaluate:
            if isinstance(node, Literal):
                value = node.value
                return lambda values: value
            if isinstance(node, Name):
                return load_name(node.name)
            if isinstance(node, Category):
                position = float(list(self.categories[node.name]).index(node.text))
                return _applied(operations[node.operation], [load_name(node.name), lambda values: position])
            return _applied(operations[node.operation], [build(operand) for operand in node.operands])

        root = build(self.expression.root)
        # The sign of a NaN is the processor's choice: the last step gives all the same.
        return lambda values: finite(root(values))


def _applied(apply: Callable[..., Any], operands: list[Evaluate]) -> Evaluate:
    """The operation on its operands' values, without a loop for the usual numbers of operands."""
    if len(operands) == 1:
        (only,) = operands
        return lambda values: apply(only(values))
    if len(operands) == 2:
        left, right = operands
        return lambda values: apply(left(values), right(values))
    if len(operands) == 3:
        first, second, third = operands
        return lambda values: apply(first(values), second(values), third(values))
    return lambda values: apply(*[operand(values) for operand in operands])
