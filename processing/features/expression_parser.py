"""The parser of declared features: from a text to its tree, by a fixed grammar."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from processing.errors import BadInput
from processing.features.expression_errors import bad_expression, hint
from processing.features.expression_functions import FUNCTIONS, OPERATIONS, OPERATORS, Kind
from processing.features.expression_tree import Call, Category, Literal, Name, Node

MOST_DEPTH = 40
MOST_PARTS = 200  # numbers, names, operators and functions

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)"""
    r"""|(?P<text>"[^"\n]*"|'[^'\n]*')|(?P<symbol><=|>=|==|!=|[-+*/<>(),])""",
    re.ASCII,
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_POWERS = {"or": 1, "and": 2, **dict.fromkeys(_COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "/": 6}  # higher binds tighter
_PREFIXES = {"not": ("not", 3), "-": ("negative", 7)}


class _Token(NamedTuple):
    kind: str  # "number", "name", "text", "symbol" or "end"
    text: str
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


class _Text(NamedTuple):
    """A text in quotes, which only a comparison can use."""

    token: _Token
    depth: int = 1


_Part = Node | _Text


class Parser:
    """Reads tokens by operator precedence (V. R. Pratt, "Top down operator precedence", 1973)."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.tokens = list(self._split(text))
        self.place = self.parts = self.nesting = 0

    def whole(self) -> Node:
        """The whole text as a number."""
        first = self.tokens[0]
        part = self._expression(0)
        if self._next.kind != "end":
            raise self._error(self._next, f"expected an operator or the end, found {self._next}")
        return self._as(part, Kind.NUMBER, first, "a feature")

    @property
    def _next(self) -> _Token:
        return self.tokens[self.place]

    def _take(self, symbol: str = "") -> _Token:
        token = self._next
        if symbol and token.text != symbol:
            raise self._error(token, f"expected {symbol!r}, found {token}")
        self.place += token.kind != "end"
        return token

    def _expression(self, power: int) -> _Part:
        """What binds tighter than `power`."""
        self.nesting += 1
        first = self._next
        if self.nesting > MOST_DEPTH:
            raise self._error(first, f"nested more than {MOST_DEPTH} deep; declare a part as a feature of its own")
        left = self._operand()
        while _POWERS.get(self._next.text, 0) > power:
            operator = self._take()
            begin = self._next
            right = self._expression(_POWERS[operator.text])
            left = self._compared(operator, left, right) or self._applied(
                operator, operator.text, [(left, first), (right, begin)]
            )
        self.nesting -= 1
        return left

    def _operand(self) -> _Part:
        token = self._take()
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise self._error(token, f"the number {token} is too large")
            return self._counted(Literal(value), token)
        if token.kind == "text":
            return _Text(token)
        if token.text in _PREFIXES:
            name, power = _PREFIXES[token.text]
            begin = self._next
            return self._applied(token, name, [(self._expression(power), begin)])
        if token.text == "(":
            inner = self._expression(0)
            self._take(")")
            return inner
        if token.kind == "name" and token.text not in _POWERS:
            return self._call(token) if self._next.text == "(" else self._counted(Name(token.text, token.at), token)
        raise self._error(token, f"expected a number, a name or '(', found {token}")

    def _call(self, token: _Token) -> Node:
        if token.text not in FUNCTIONS:
            raise self._error(token, f"unknown function {token}; {hint(token.text, list(FUNCTIONS))}")
        function, given, closing = FUNCTIONS[token.text], list[tuple[_Part, _Token]](), ","
        self._take("(")
        while closing == ",":
            begin = self._next
            given.append((self._expression(0), begin))
            closing = self._take("," if self._next.text == "," else ")").text
        wanted = len(function.operands)
        if len(given) < wanted or (len(given) > wanted and not function.more):
            expected = f"{wanted} or more values" if function.more else f"{wanted} value{'s' if wanted > 1 else ''}"
            raise self._error(token, f"{function.usage} takes {expected}, found {len(given)}")
        return self._applied(token, token.text, given)

    def _compared(self, operator: _Token, left: _Part, right: _Part) -> Node | None:
        """The comparison of a categorical column with a text, if it is one."""
        if operator.text not in ("==", "!="):
            return None
        name, text = (right, left) if isinstance(left, _Text) else (left, right)
        if not (isinstance(name, Name) and isinstance(text, _Text)):
            return None
        return self._counted(
            Category(name.name, operator.text, text.token.text[1:-1], name.at, text.token.at), operator
        )

    def _applied(self, token: _Token, name: str, given: list[tuple[_Part, _Token]]) -> Node:
        """An operation applied to parts, each with the token it begins with."""
        kinds = OPERATIONS[name].operands
        kinds += kinds[-1:] * (len(given) - len(kinds))
        usage = OPERATIONS[name].usage
        operands = tuple(self._as(part, kind, at, usage) for (part, at), kind in zip(given, kinds, strict=True))
        return self._counted(Call(name, operands, 1 + max(node.depth for node in operands)), token)

    def _as(self, part: _Part, kind: Kind, begin: _Token, usage: str) -> Node:
        """The part, if it is of that kind; `begin` is its first token, `usage` what needs it."""
        found = Kind.NUMBER
        if isinstance(part, _Text):
            raise self._error(part.token, "a text can only be compared by == or != to a categorical column")
        if isinstance(part, Category):
            found = Kind.CONDITION
        elif isinstance(part, Call):
            found = OPERATIONS[part.operation].result
        if found is kind:
            return part
        advice = "write where(condition, 1, 0)" if found is Kind.CONDITION else "compare it, as in a > 0"
        if found is Kind.CONDITION and usage in (OPERATORS[symbol].usage for symbol in _COMPARISONS):
            advice = "join comparisons by 'and'"
        raise self._error(begin, f"{usage} needs {kind.value}, found {found.value}; {advice}")

    def _counted(self, node: Node, token: _Token) -> Node:
        self.parts += 1
        if self.parts > MOST_PARTS or node.depth > MOST_DEPTH:
            limit = f"{MOST_PARTS} parts" if self.parts > MOST_PARTS else f"{MOST_DEPTH} operations in one another"
            raise self._error(token, f"more than {limit}; declare a part as a feature of its own")
        return node

    def _split(self, text: str) -> Iterator[_Token]:
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(_Token("symbol", text[at], at), _unreadable(text[at]))
            kind, at = str(match.lastgroup), match.end()
            if kind != "space":
                yield _Token(kind, match.group(), match.start())
        yield _Token("end", "", len(text))

    def _error(self, token: _Token, what: str) -> BadInput:
        return bad_expression(self.source, token.at, what)


def _unreadable(character: str) -> str:
    if character in "\"'":
        return f"the text is not closed by another {character}"
    if character == "=":
        return "'=' does not compare; write =="
    if character == ".":
        return "a name has one dot at most: entity.aggregate"
    if character.isascii():
        return f"{character!r} is not part of the language; it has numbers, names, + - * /, comparisons and functions"
    return f"{character!r} (U+{ord(character):04X}) is not ASCII; outside of quotes write plain letters and signs"
