"""The features that a contract declares by expressions over its columns and over the other features.

An expression names a column as it is, a feature of an entity with a dot: `customer.count_7d` is `customer_count_7d`. It
may use the features declared before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from processing.arrays import Floats
from processing.contract import Contract
from processing.features.compiled_expression import CompiledExpression
from processing.features.expressions import parse


@dataclass(frozen=True)
class DeclaredFeatures:
    """The declared features of a contract.

    base: the names of the features that they are computed from, in order

    Every method raises BadInput for an expression that cannot be computed.
    """

    contract: Contract
    base: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in the order of the contract."""
        return tuple(feature.name for feature in self.contract.declared)

    @cached_property
    def compiled(self) -> list[CompiledExpression]:
        """The expressions, each over the base and the features declared before it."""
        known = list(self._written)
        compiled = []
        for feature in self.contract.declared:
            expression = parse(feature.expression, f"feature {feature.name!r}")
            compiled.append(CompiledExpression(expression, tuple(known), self.contract.categorical))
            known.append(feature.name)
        return compiled

    def check(self) -> None:
        """Raise BadInput if an expression cannot be computed."""
        _ = self.compiled

    def name_of(self, written: str) -> str:
        """The feature that an expression names so."""
        return self._written.get(written, written)

    @cached_property
    def _written(self) -> dict[str, str]:
        """The base features, in order, by the names that expressions give them."""
        columns = {*self.contract.numeric, *self.contract.categorical}
        return {(name if name in columns else self._dotted(name)): name for name in self.base}

    def _dotted(self, name: str) -> str:
        owners = [entity.name for entity in self.contract.entities if name.startswith(f"{entity.name}_")]
        owner = max(owners, key=len, default="")  # not the card of a card_shop
        return f"{owner}.{name.removeprefix(f'{owner}_')}" if owner else name

    def of_columns(self, base: Floats) -> Floats:
        """The base features, [n, len(base)], and the declared ones after them."""
        columns = list(base.T)
        for expression in self.compiled:
            columns.append(expression.of_columns(columns[: len(expression.names)]))
        return np.column_stack(columns) if self.compiled else base

    def of_numbers(self, base: Sequence[float]) -> list[float]:
        """The same for one transaction, with the same bits."""
        numbers = list(base)
        for expression in self.compiled:
            numbers.append(expression.of_numbers(numbers))
        return numbers
