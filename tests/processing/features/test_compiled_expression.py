"""Compiled expressions: the same bits for columns and for numbers, equal to what the expression means."""

import math
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.arrays import Floats
from processing.errors import BadInput
from processing.features.arithmetic import NUMBERS
from processing.features.compiled_expression import CompiledExpression
from processing.features.distance import distance_km
from processing.features.expressions import parse

NAMES = ("amount", "hour", "customer.amount_max_30d", "lat", "channel")
CATEGORIES = {"channel": ("chip", "contactless", "online")}
NAN = math.nan
TESTS = ("<", "<=", ">", ">=", "==", "!=")
UNARY, BINARY = ("sqrt", "abs", "floor", "-"), ("+", "-", "*", "/", "min", "max")

# A tree is a number, a name, or a tuple of an operation and its operands.
literals = st.floats(0, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, 2.0, 0.5, 90.0])
leaves = literals | st.sampled_from(NAMES[:-1])


@st.composite
def conditions(draw: st.DrawFn, numbers: st.SearchStrategy[Any], depth: int = 2) -> Any:
    kind = draw(st.sampled_from(["test", "category", "not", "and", "or"] if depth else ["test", "category"]))
    if kind == "category":
        return draw(st.sampled_from(["is", "is not"])), draw(st.sampled_from(CATEGORIES["channel"]))
    if kind == "test":
        return draw(st.sampled_from(TESTS)), draw(numbers), draw(numbers)
    return kind, *(draw(conditions(numbers, depth - 1)) for _ in range(1 if kind == "not" else 2))


@st.composite
def larger(draw: st.DrawFn, numbers: st.SearchStrategy[Any]) -> Any:
    kind = draw(st.sampled_from(["unary", "binary", "where", "distance_km"]))
    if kind == "where":
        return kind, draw(conditions(numbers)), draw(numbers), draw(numbers)
    name, operands = {"unary": (UNARY, 1), "binary": (BINARY, 2), "distance_km": (("distance_km",), 4)}[kind]
    return draw(st.sampled_from(name)), *(draw(numbers) for _ in range(operands))


trees = st.recursive(leaves, larger, max_leaves=12)
values = st.floats() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e308, 5e-324, NAN])
rows = st.lists(
    st.tuples(values, values, values, values, st.sampled_from([0.0, 1.0, 2.0, NAN])), min_size=1, max_size=6
)


def written(tree: Any) -> str:
    if isinstance(tree, float):
        return repr(tree)
    if isinstance(tree, str):
        return tree
    operation, *operands = tree
    if operation in ("is", "is not"):
        return f"channel {'==' if operation == 'is' else '!='} '{operands[0]}'"
    texts = [written(operand) for operand in operands]
    if operation in ("sqrt", "abs", "floor", "min", "max", "where", "distance_km"):
        return f"{operation}({', '.join(texts)})"
    return f"({operation} {texts[0]})" if len(texts) == 1 else f"({texts[0]} {operation} {texts[1]})"


def meaning(tree: Any, row: dict[str, float]) -> Any:
    """A number or a condition by the definition, written out: None is not known."""
    if isinstance(tree, float):
        return tree
    if isinstance(tree, str):
        return row[tree] if math.isfinite(row[tree]) else None
    operation, *operands = tree
    if operation in ("is", "is not"):
        known = row["channel"]
        listed = None if math.isnan(known) else CATEGORIES["channel"][int(known)]
        return None if listed is None else (listed == operands[0]) == (operation == "is")
    found = [meaning(operand, row) for operand in operands]
    if operation == "where":
        return None if found[0] is None else found[1] if found[0] else found[2]
    if operation == "and":
        return False if False in found else None if None in found else True
    if operation == "or":
        return True if True in found else None if None in found else False
    if None in found:
        return None
    number = by_operation(operation, *found)
    return None if isinstance(number, float) and not math.isfinite(number) else number


def by_operation(operation: str, a: Any, *others: Any) -> Any:
    b = others[0] if others else None
    match operation:
        case "not":
            return not a
        case "<" | "<=" | ">" | ">=" | "==" | "!=":
            return eval(f"a {operation} b", {}, {"a": a, "b": b})
        case "sqrt":
            return a**0.5 if a > 0 else a if a == 0 else None
        case "abs":
            return math.fabs(a)
        case "floor":
            return float(math.floor(a))
        case "-":
            return -a if b is None else a - b
        case "+":
            return a + b
        case "*":
            return a * b
        case "/":
            return a / b if b != 0 else None
        case "min" | "max":
            return (min if operation == "min" else max)(a, b)  # Python's keep the first of equals
        case _:
            return distance_km(a, *others, NUMBERS)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def compiled(text: str) -> CompiledExpression:
    return CompiledExpression(parse(text, "here"), NAMES, CATEGORIES)


def columns_of(table: list[tuple[float, ...]]) -> list[Floats]:
    return list(np.array(table, np.float64).T)


@given(trees, rows)
def test_columns_and_numbers_give_the_bits_of_the_definition(tree: Any, table: list[tuple[float, ...]]) -> None:
    expression = compiled(f"where(hour == hour, {written(tree)}, 0)")
    by_columns = expression.of_columns(columns_of(table))
    assert by_columns.dtype == np.float64
    assert by_columns.shape == (len(table),)
    for row, column_value in zip(table, by_columns.tolist(), strict=True):
        number = expression.of_numbers(row)
        assert bits(number) == bits(column_value)
        expected = meaning(tree, dict(zip(NAMES, row, strict=True))) if math.isfinite(row[1]) else None
        assert bits(number) == bits(NAN if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "amount", "hour", "expected"),
    [
        ("amount / hour", 1.0, 0.0, NAN),
        ("amount / hour", 0.0, 0.0, NAN),
        ("amount / (0 - hour + hour)", 1.0, 3.0, NAN),
        ("1 / (amount * amount)", 1e200, 0.0, NAN),  # an overflow in between is not a zero at the end
        ("amount + 0", math.inf, 0.0, NAN),
        ("1 / amount", math.inf, 0.0, NAN),  # nor is what came in infinite
        ("where(amount > 0, 1, 2)", math.inf, 0.0, NAN),
        ("sqrt(amount)", -1.0, 0.0, NAN),
        ("sqrt(amount)", -0.0, 0.0, -0.0),
        ("floor(amount)", -0.5, 0.0, -1.0),
        ("floor(amount)", -0.0, 0.0, 0.0),
        ("floor(amount)", 1e300, 0.0, 1e300),
        ("min(amount, hour)", 0.0, -0.0, 0.0),
        ("min(amount, hour)", -0.0, 0.0, -0.0),
        ("max(amount, hour, 3)", NAN, 1.0, NAN),
        ("min(3, hour, amount)", NAN, 1.0, NAN),
        ("max(amount, hour, 3)", 1.0, 5.0, 5.0),
        ("-amount", NAN, 0.0, NAN),
        ("where(amount > 0, 1 / amount, 7)", 0.0, 0.0, 7.0),
        ("where(amount > 0, 1, 2)", NAN, 0.0, NAN),
        *((f"where(amount {test} hour, 1, 2)", NAN, 0.0, NAN) for test in TESTS),
        *((f"where(hour {test} amount, 1, 2)", NAN, 0.0, NAN) for test in TESTS),
        ("where(not amount > 0, 1, 2)", NAN, 0.0, NAN),
        ("where(amount > 0 and hour > 0, 1, 2)", NAN, 0.0, 2.0),
        ("where(amount > 0 and hour > 0, 1, 2)", NAN, 1.0, NAN),
        ("where(amount > 0 or hour > 0, 1, 2)", NAN, 1.0, 1.0),
        ("where(amount > 0 or hour > 0, 1, 2)", NAN, 0.0, NAN),
        ("where(amount != amount, 1, 2)", NAN, 0.0, NAN),
    ],
)
def test_edges_are_as_documented(text: str, amount: float, hour: float, expected: float) -> None:
    row = (amount, hour, 0.0, 0.0, 0.0)
    assert bits(compiled(text).of_numbers(row)) == bits(expected)
    assert bits(float(compiled(text).of_columns(columns_of([row]))[0])) == bits(expected)


@pytest.mark.parametrize(("position", "expected"), [(2.0, 5.0), (0.0, 0.0), (NAN, NAN)])
def test_a_category_is_compared_by_its_value(position: float, expected: float) -> None:
    row = (5.0, 0.0, 0.0, 0.0, position)
    assert bits(compiled("where(channel == 'online', amount, 0)").of_numbers(row)) == bits(expected)
    assert bits(compiled('where("online" != channel, 0, amount)').of_numbers(row)) == bits(expected)


def test_whole_numbers_count_as_floats() -> None:
    large = 2**40  # whose cube is beyond 64 bits
    row = (large, 0, 0, 0, 0)
    expression = compiled("amount * amount * amount")
    assert expression.of_numbers(row) == 2.0**120
    assert expression.of_columns([np.array([v], np.int64) for v in row])[0] == 2.0**120  # type: ignore[misc]


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'amount'"):
        compiled("amuont * 2")
    with pytest.raises(BadInput, match="unknown name 'channel'"):
        CompiledExpression(parse("where(channel == 'chip', amount, 0)", "here"), ("amount",), CATEGORIES)


def test_a_compiled_expression_travels_to_another_process() -> None:
    expression = compiled("amount * 2")
    assert expression.of_numbers((3.0, 0.0, 0.0, 0.0, 0.0)) == 6.0
    assert pickle.loads(pickle.dumps(expression)).of_numbers((3.0, 0.0, 0.0, 0.0, 0.0)) == 6.0
