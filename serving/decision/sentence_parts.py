"""The parts of the sentences that describe features: who, how long, how long ago, how much."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from processing.contract import Contract, Entity
from processing.durations import DAY_US, UNITS, parse_duration

Words = Callable[[float], str]
UNIT_NAMES = {"m": "minute", "h": "hour", "d": "day"}


def unless_missing(missing: str, words: Words) -> Words:
    """How a value reads that may be missing, as NaN."""
    return lambda value: missing if math.isnan(value) else words(value)


class Description(NamedTuple):
    """The topic of a feature, and its value in words."""

    topic: str
    words: Words


class Subject:
    """An entity in a sentence: "this customer", or for one of several columns "this customer at this terminal"."""

    def __init__(self, contract: Contract, entity: Entity) -> None:
        self._alone = len(entity.columns) == 1
        first, *others = (entity.name,) if self._alone else map(noun, contract.key_names_of(entity))
        self.this = f"this {first}" + (f" at {' and '.join(f'this {other}' for other in others)}" if others else "")
        self.at = f"at {self.this}" if self._alone else f"of {self.this}"
        self.its = "its" if self._alone else "the"

    def has(self, what: str) -> str:
        """Something that it has: "this customer's mean amount"."""
        return f"{self.this}'s {what}" if self._alone else f"the {what} of {self.this}"


class Span:
    """A window's length in a sentence: "in 10 minutes", "the 7-day mean"."""

    def __init__(self, window: str) -> None:
        self.text, number, unit = window, window[:-1], UNIT_NAMES[window[-1]]
        self.words = f"{number} {unit}{'' if number == '1' else 's'}"
        self.adjective = f"{number}-{unit}"
        self.before = "the days before" if parse_duration(window).us >= DAY_US else "the time before"


def ago(hours: float) -> str:
    """How long ago something was: minutes up to two hours, hours up to two days, then days."""
    if hours * 60 < 1:
        return "less than a minute ago"
    unit = "m" if hours < 2 else "h" if hours < 48 else "d"
    number = f"{hours * UNITS['h'] / UNITS[unit]:,.0f}"
    return f"{number} {UNIT_NAMES[unit]}{'' if number == '1' else 's'} ago"


def money_of(contract: Contract) -> Words:
    """How amounts of a contract read."""
    return lambda value: f"{value:,.{contract.amount_decimals}f}"


def noun(column: str) -> str:
    """What a column holds: a terminal, if its name is terminal or terminal_id."""
    return re.sub(r"_id$", "", column, flags=re.IGNORECASE).replace("_", " ")


def plural(word: str) -> str:
    """The plural of a noun."""
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if re.search(r"(s|x|ch|sh)$", word) else f"{word}s"
