"""The parser of declared features: Python's precedence, errors with their place, and nothing of Python itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.errors import BadInput
from processing.features.compiled_expression import CompiledExpression
from processing.features.expressions import check, parse

NAMES = ("a", "b", "customer.amount_max_30d")
CATEGORIES = {"channel": ("chip", "contactless", "online")}
HERE = "mine.toml [[feature]] 'ratio'"


def refusal(text: str) -> str:
    """The error of a text that is refused by the parser or the check."""
    with pytest.raises(BadInput) as refused:
        check(parse(text, HERE), NAMES, CATEGORIES)
    return str(refused.value)


def value(text: str, a: float = 0.0, b: float = 0.0) -> float:
    return CompiledExpression(parse(text, HERE), NAMES, {}).of_numbers([a, b, 0.0])


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "-", "- -"]), st.sampled_from(["a", "b", "3", "0.5"])), min_size=2, max_size=8
    ),
    st.lists(st.sampled_from("+-*/"), min_size=7, max_size=7),
)
def test_operators_bind_as_in_python(terms: list[tuple[str, str]], operators: list[str]) -> None:
    text = "a+" + " ".join(
        f"{sign}{term}{operator}" for (sign, term), operator in zip(terms, operators, strict=False)
    ).rstrip("+-*/ ")
    assert value(text, 1.7, -2.3) == eval(text, {}, {"a": 1.7, "b": -2.3})


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "not ", "not not "]), st.sampled_from(["a", "b", "1"])), min_size=6, max_size=6
    ),
    st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=3, max_size=3),
    st.lists(st.sampled_from(["and", "or"]), min_size=2, max_size=2),
    st.sampled_from([0.0, 1.0, 2.0]),
    st.sampled_from([0.0, 1.0, 2.0]),
)
def test_conditions_bind_as_in_python(
    terms: list[tuple[str, str]], tests: list[str], joints: list[str], a: float, b: float
) -> None:
    text = " ".join(
        f"{terms[i][0]}{terms[i][1]} {tests[i]} {terms[i + 3][1]} {joint}" for i, joint in enumerate([*joints, ""])
    )
    assert value(f"where({text}, 1, 0) + 0*a", a, b) == float(eval(text, {}, {"a": a, "b": b}))


def test_an_expression_tells_the_names_it_uses() -> None:
    expression = parse('where(channel == "online" and "chip" != channel, a / customer.amount_max_30d, a)', HERE)
    assert expression.names == {"channel", "a", "customer.amount_max_30d"}
    check(expression, NAMES, CATEGORIES)


@pytest.mark.parametrize(
    ("text", "character", "what"),
    [
        ("a / custmer.amount_max_30d", 5, "did you mean 'customer.amount_max_30d'?"),
        ("a + zzz", 5, "unknown name 'zzz'; known: a, b, channel, customer.amount_max_30d"),
        ("a + sqr(b)", 5, "did you mean 'sqrt'?"),
        ("a + channel", 5, "compare it to a text, as in channel == 'chip'"),
        ('where(a == "chip", 1, 0)', 7, "'a' is a number"),
        ('where(channel == "onlin", a, 0)', 18, "did you mean 'online'?"),
        ("a +", 4, "found the end"),
        ("", 1, "found the end"),
        ("a b", 3, "expected an operator or the end, found 'b'"),
        ("(a + b", 7, "expected ')', found the end"),
        ("a + b)", 6, "found ')'"),
        ("sqrt(a, b)", 1, "sqrt(a) takes 1 value, found 2"),
        ("min(a)", 1, "takes 2 or more values, found 1"),
        ("distance_km(a, b)", 1, "distance_km(lat1, lon1, lat2, lon2) takes 4 values, found 2"),
        ("a > b", 1, "write where(condition, 1, 0)"),
        ("where(a, 1, 0)", 7, "needs a condition, found a number"),
        ("where(a < b < 3, 1, 0)", 7, "join comparisons by 'and'"),
        ("a + 'chip'", 5, "a text can only be compared"),
        ("where('a' == 'a', a, b)", 7, "a text can only be compared"),
        ("where(channel == 'chip, a, b)", 18, "not closed"),
        ("where(a = 1, 1, 0)", 9, "write =="),
        ("a + 1e999", 5, "too large"),
        ("a + " + "9" * 400, 5, "too large"),
        ("a.b.c", 4, "one dot"),
        ("a − b", 3, "U+2212"),
        ("a + " + "(" * 50 + "b" + ")" * 50, 44, "nested more than 40 deep"),
        ("-" * 999 + "a", 41, "nested more than 40 deep"),
        ("where(" + "not " * 200 + "a > 1, a, b)", 163, "nested more than 40 deep"),
        ("a" + "+a" * 60, 80, "more than 40 operations in one another"),
        ("min(" + "a," * 250 + "a)", 405, "more than 200 parts"),
    ],
)
def test_an_error_names_the_character_and_the_way_out(text: str, character: int, what: str) -> None:
    message = refusal(text)
    assert message.startswith(f"{HERE}, character {character} of the expression: ")
    assert what in message


def test_what_is_too_long_or_the_same_for_all_transactions_is_refused() -> None:
    assert "1,001 characters, at most 1,000" in refusal("a" * 1001)
    assert "uses no column" in refusal("1 + 2")


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "__import__", "a.__class__", "a.__class__.__mro__", "().__class__", "a.b(1)", "a()()"),
        *("lambda: a", "lambda a: a", "(a := 1)", "a := 1", "f'{a}'", 'f"{a}"', "a if b else 1", "[a]", "{a}", "a[0]"),
        *(
            "[a for a in b]",
            "a; b",
            "a\\\nb",
            "# a",
            "a, b",
            "*a",
            "**a",
            "a ** b",
            "a // b",
            "a % b",
            "a @ b",
            "a & b",
        ),
        *(
            "~a",
            "a is b",
            "a in b",
            "eval('a')",
            "exec('a')",
            "print(a)",
            "min(a, key=b)",
            "min(*a)",
            "yield a",
            "await a",
        ),
        *("1_000 * a", "0x10 * a", "1j * a", "10a", "True", "None", "...", "a\0", "`a`", "$a", "inf", "nan", "1e+a"),
        *(
            "\uff41 + b",
            "\u0430 + b",
            "a\u00a0+ b",
            "a + \u0661",
            "a \u00d7 b",
            "\u212f",
            "a\u200b",
            "a \uff1c b",
            "\u201ca\u201d",
        ),
    ],
)
def test_nothing_of_python_is_accepted(text: str) -> None:
    assert refusal(text).startswith(HERE)


@given(st.text(st.sampled_from("ab01.+-*/()<>=!,'\" enotrwh\n\t_é"), max_size=60))
def test_any_text_is_parsed_or_refused_with_its_place(text: str) -> None:
    message = HERE
    try:
        parse(text, HERE)
    except BadInput as refused:
        message = str(refused)
    assert message.startswith(HERE)
