"""The words for a declared feature: only the value, in a known format, and nothing that reaches into Python."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.errors import BadInput
from processing.features.words import parse_words

numbers = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("template", "value", "words"),
    [
        ("{value:.1f}x this customer's largest payment", 2.25, "2.2x this customer's largest payment"),
        ("{value:,.2f} euros", 1234567.891, "1,234,567.89 euros"),
        ("{value:d} and {value:,d} payments", 1234.0, "1234 and 1,234 payments"),
        ("{value:.0%} of them", 0.456, "46% of them"),
        ("about {value}", 0.1 + 0.2, "about 0.3"),
        ("{{braces}} {value:.0f}", 3.0, "{braces} 3"),
        ("difference {value:.1f}, {value}", -0.0, "difference 0.0, 0"),
        ("difference {value:.0f}", -0.3, "difference 0"),
        ("pays at night", 1.0, "pays at night"),
    ],
)
def test_a_value_reads_as_its_template_says(template: str, value: float, words: str) -> None:
    assert parse_words(template, "feature", "here").render(value) == words


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_unknown_value_is_said_to_be_unknown(value: float) -> None:
    assert parse_words("{value:d}x", "amount_to_max_30d", "here").render(value) == "amount to max 30d unknown"


@given(numbers, st.sampled_from([*(f".{n}f" for n in range(10)), "d"]), st.booleans())
def test_the_words_hold_the_value_rounded(value: float, form: str, comma: bool) -> None:
    words = parse_words(f"<{{value:{',' if comma else ''}{form}}}>", "feature", "here").render(value)
    digits = 0 if form == "d" else int(form[1])
    assert float(words.strip("<>").replace(",", "")) == round(value, digits)


@pytest.mark.parametrize(
    "template",
    [
        *("{}", "{0}", "{name}", "{value.real}", "{value[0]}", "{value.__class__}", "{value!r}", "{value!s:.1f}"),
        *("{value:{value}}", "{value:>99999999}", "{value:.99f}", "{value:x}", "{value:e}", "{value:%}", "{value:c}"),
        *("{value", "value}", "{{value}", "{value:.1f}}", "", "  ", "x" * 201, "one\ntwo", "bell\a", "{value:,}"),
    ],
)
def test_any_other_field_or_format_is_refused_with_its_place(template: str) -> None:
    with pytest.raises(BadInput, match=r"^mine.toml \[\[feature\]\]: "):
        parse_words(template, "feature", "mine.toml [[feature]]")


@given(st.text(st.sampled_from("{}value:.,1fd%!r[]() x"), max_size=30))
def test_a_template_renders_or_is_refused(template: str) -> None:
    try:
        words = parse_words(template, "feature", "here")
    except BadInput:
        return
    assert isinstance(words.render(1.5), str)
