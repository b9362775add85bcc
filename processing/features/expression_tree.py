"""A declared feature's expression, parsed: what it says, and the names that it uses."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from processing.errors import BadInput
from processing.features.expression_errors import bad_expression


@dataclass(frozen=True)
class Literal:
    """A number as written, finite."""

    value: float
    depth: int = 1


@dataclass(frozen=True)
class Name:
    """A column or an aggregate that holds numbers. `at` is its place in the expression, from 0."""

    name: str
    at: int
    depth: int = 1


@dataclass(frozen=True)
class Category:
    """Whether a categorical column has this value (`operation` "==") or another one ("!=")."""

    name: str
    operation: str
    text: str
    at: int
    text_at: int
    depth: int = 1


@dataclass(frozen=True)
class Call:
    """An operator or function of `processing.features.expression_functions.OPERATIONS`, applied to operands."""

    operation: str
    operands: tuple["Node", ...]
    depth: int


Node: TypeAlias = Literal | Name | Category | Call


@dataclass(frozen=True)
class Expression:
    """A parsed expression. `source` names the place it was read from, for errors."""

    text: str
    source: str
    root: Node

    @cached_property
    def uses(self) -> tuple[Name | Category, ...]:
        """Every use of a column or aggregate, from left to right."""
        return tuple(_uses(self.root))

    @property
    def names(self) -> frozenset[str]:
        """The columns and aggregates that it uses."""
        return frozenset(use.name for use in self.uses)

    def error(self, at: int, what: str) -> BadInput:
        """An error at a place in the text."""
        return bad_expression(self.source, at, what)


def _uses(node: Node) -> Iterator[Name | Category]:
    if isinstance(node, Name | Category):
        yield node
    elif isinstance(node, Call):
        for operand in node.operands:
            yield from _uses(operand)
