"""The language of declared features: numbers, names, + - * /, comparisons, and a few functions.

    amount / customer.amount_max_30d
    where(channel == "online" and hour < 6, amount, 0)
    distance_km(lat, lon, customer.last_lat, customer.last_lon) / customer.hours_since_last

An expression is parsed here and never evaluated as Python. Precedence is Python's, but comparisons do not chain: write
`a < b and b < c`. A name is that of a column, or of an entity's aggregate after a dot: ASCII letters, digits and _. A
categorical column is compared with == or != to a text in quotes. `expression_functions` defines the operations.
"""

from collections.abc import Collection, Mapping

from processing.errors import BadInput
from processing.features.expression_errors import hint
from processing.features.expression_parser import Parser
from processing.features.expression_tree import Category, Expression, Name

MOST_CHARACTERS = 1_000


def parse(text: str, source: str) -> Expression:
    """The expression in a text; `source` names its place in errors.

    Raises BadInput that says what is wrong, at which character, and what is expected there.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadInput(
            f"{source}: the expression has {len(text):,} characters, at most {MOST_CHARACTERS:,} are allowed; "
            "declare a part of it as a feature of its own"
        )
    expression = Expression(text, source, Parser(text, source).whole())
    if not expression.uses:
        raise BadInput(f"{source}: the expression uses no column or aggregate, so it is the same for all transactions")
    return expression


def check(
    expression: Expression, numbers: Collection[str], categories: Mapping[str, Collection[str]] | None = None
) -> None:
    """Raise BadInput for a name that does not exist, or that is used as a number and is none.

    `numbers` are the known columns and aggregates of numbers, `categories` the values of each categorical column.
    """
    categories = categories or {}
    for use in expression.uses:
        if use.name not in numbers and use.name not in categories:
            known = [*numbers, *categories]
            raise expression.error(use.at, f"unknown name {use.name!r}; {hint(use.name, known)}")
        if isinstance(use, Name) and use.name not in numbers:
            value = next(iter(categories[use.name]), "...")
            raise expression.error(
                use.at, f"{use.name!r} is a category, not a number: compare it to a text, as in {use.name} == {value!r}"
            )
        if isinstance(use, Category) and use.name not in categories:
            raise expression.error(use.at, f"{use.name!r} is a number: compare it to a number, not to a text")
        if isinstance(use, Category) and use.text not in categories[use.name]:
            known = list(categories[use.name])
            raise expression.error(use.text_at, f"{use.name!r} has no value {use.text!r}; {hint(use.text, known)}")
