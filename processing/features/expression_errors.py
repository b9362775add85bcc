"""Errors in a declared feature's expression: the place, what is wrong, and the nearest name that exists."""

from difflib import get_close_matches

from processing.errors import BadInput

MOST_SHOWN = 8  # names in an error


def bad_expression(source: str, at: int, what: str) -> BadInput:
    """An error at a place in an expression's text, from 0; people count characters from 1."""
    return BadInput(f"{source}, character {at + 1} of the expression: {what}")


def hint(wrong: str, known: list[str]) -> str:
    """The known name that is nearest to a wrong one, or some of those that are known."""
    near = get_close_matches(wrong, known, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    more = ", ..." if len(known) > MOST_SHOWN else ""
    return f"known: {', '.join(sorted(known)[:MOST_SHOWN])}{more}"
