"""How the value of each feature reads in words."""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from processing.contract import Contract, Entity
from processing.features.words import parse_words

Words = Callable[[float], str]


class Description(NamedTuple):
    """The topic of a feature, and its value in words."""

    topic: str
    words: Words


class Subject:
    """An entity in a sentence: "this customer", or for one of several columns "this customer at this terminal"."""

    def __init__(self, contract: Contract, entity: Entity) -> None:
        self._alone = len(entity.columns) == 1
        first, *others = (entity.name,) if self._alone else map(_noun, contract.key_names_of(entity))
        self.this = f"this {first}" + (f" at {' and '.join(f'this {other}' for other in others)}" if others else "")
        self.at = f"at {self.this}" if self._alone else f"of {self.this}"
        self.its = "its" if self._alone else "the"

    def has(self, what: str) -> str:
        """Something that it has: "this customer's mean amount"."""
        return f"{self.this}'s {what}" if self._alone else f"the {what} of {self.this}"


def plain_description(name: str) -> Description:
    """The description of a feature that is not known here."""
    return Description(name, _number(name.replace("_", " ")))


def descriptions_of(contract: Contract) -> dict[str, Description]:
    """The descriptions of a contract's features, by feature name."""
    money = _money(contract)
    by_name = {
        "amount": Description("amount", lambda v: f"amount {money(v)}"),
        "hour": Description("time", lambda v: f"between {v:02.0f}:00 and {(v + 1) % 24:02.0f}:00 UTC"),
        "weekend": Description("time", lambda v: "on a weekend" if v else "on a weekday"),
    }
    for entity in contract.entities:
        by_name |= _behaviour(Subject(contract, entity), entity, money)
    by_name |= {name: Description(name, _number(name)) for name in contract.numeric}
    by_name |= {name: Description(name, _category(name, values)) for name, values in contract.categorical.items()}
    for feature in contract.declared:
        if feature.says:
            words = parse_words(feature.says, feature.name, f"feature {feature.name!r}")
            by_name[feature.name] = Description(feature.name, words.render)
    return by_name


def _behaviour(subject: Subject, entity: Entity, money: Callable[[float], str]) -> dict[str, Description]:
    who, by_name = entity.name, dict[str, Description]()
    for days in entity.windows_days:
        by_name[f"{who}_count_{days}d"] = Description(f"{who} count", _count(subject, days))
        by_name[f"{who}_mean_amount_{days}d"] = Description(f"{who} amount", _mean(subject, days, money))
        by_name[f"{who}_amount_ratio_{days}d"] = Description(f"{who} amount", _ratio(subject, days))
        by_name[f"{who}_amount_zscore_{days}d"] = Description(f"{who} amount", _zscore(subject, days))
        by_name[f"{who}_amount_variation_{days}d"] = Description(f"{who} amount", _variation(subject, days))
    *shorter, longest = entity.windows_days
    for days in shorter:
        by_name[f"{who}_amount_trend_{days}d"] = Description(f"{who} amount", _trend(subject, days, longest))
    for days in entity.fraud_windows_days:
        by_name[f"{who}_fraud_count_{days}d"] = Description(f"{who} fraud", _frauds(subject, days))
        by_name[f"{who}_fraud_rate_{days}d"] = Description(f"{who} fraud", _fraud_rate(subject, days))
        by_name[f"{who}_fraud_mean_amount_{days}d"] = Description(f"{who} fraud", _fraud_mean(subject, days, money))
    for days in entity.fraud_windows_days[-1:]:
        for which in ("first", "last"):
            name = f"{who}_hours_since_{which}_fraud_{days}d"
            by_name[name] = Description(f"{who} fraud", _since(subject, days, which))
        by_name[f"{who}_count_since_last_fraud_{days}d"] = Description(f"{who} fraud", _passed(subject, days))
    return by_name


def _money(contract: Contract) -> Callable[[float], str]:
    return lambda value: f"{value:,.{contract.amount_decimals}f}"


def _noun(key_name: str) -> str:
    """What a key column identifies: a terminal, if its name is terminal or terminal_id."""
    return re.sub(r"_id$", "", key_name, flags=re.IGNORECASE).replace("_", " ")


def _span(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}"


def _count(subject: Subject, days: int) -> Words:
    def words(value: float) -> str:
        if value == 1.0:
            return f"{subject.has('first transaction')} in {_span(days)}"
        return f"{value:,.0f} transactions of {subject.this} in {_span(days)}"

    return words


def _mean(subject: Subject, days: int, money: Callable[[float], str]) -> Words:
    return lambda value: f"{subject.has(f'mean amount {money(value)}')} over {_span(days)}"


def _ratio(subject: Subject, days: int) -> Words:
    return lambda value: (
        f"no earlier amount of {subject.this} in {_span(days)}"
        if math.isnan(value)
        else f"amount {value:,.1f}x {subject.has(f'{days}-day mean')}"
    )


def _zscore(subject: Subject, days: int) -> Words:
    return lambda value: (
        f"at most one earlier transaction of {subject.this} in {_span(days)}"
        if math.isnan(value)
        else f"amount {abs(value):,.1f} standard deviations {'above' if value >= 0 else 'below'} "
        f"{subject.has(f'{days}-day mean')}"
    )


def _frauds(subject: Subject, days: int) -> Words:
    return lambda value: f"{value:,.0f} known fraud{'' if value == 1.0 else 's'} {subject.at} over {_span(days)}"


def _fraud_rate(subject: Subject, days: int) -> Words:
    return lambda value: f"{subject.has(f'fraud rate {100 * value:.3g} %').removeprefix('this ')} over {_span(days)}"


def _fraud_mean(subject: Subject, days: int, money: Callable[[float], str]) -> Words:
    return lambda value: (
        _no_fraud(subject, days)
        if math.isnan(value)
        else f"known frauds {subject.at} had a mean amount of {money(value)} over {_span(days)}"
    )


def _since(subject: Subject, days: int, which: str) -> Words:
    return lambda value: (
        _no_fraud(subject, days)
        if math.isnan(value)
        else f"{which} known fraud {subject.at} in {_span(days)} was {value / 24:,.0f} days ago"
    )


def _passed(subject: Subject, days: int) -> Words:
    return lambda value: (
        _no_fraud(subject, days)
        if math.isnan(value)
        else f"{value:,.0f} transactions {subject.at} after {subject.its} last known fraud"
    )


def _no_fraud(subject: Subject, days: int) -> str:
    return f"no known fraud {subject.at} over {_span(days)}"


def _trend(subject: Subject, days: int, longest: int) -> Words:
    return lambda value: (
        f"nothing to compare {subject.has('latest amounts')} with in {_span(longest)}"
        if math.isnan(value)
        else f"{subject.has('mean amount')} over {_span(days)} is {value:,.1f}x that of the days before"
    )


def _variation(subject: Subject, days: int) -> Words:
    return lambda value: (
        f"at most one earlier amount of {subject.this} in {_span(days)}"
        if math.isnan(value)
        else f"{subject.has('amounts')} over {_span(days)} vary by {100 * value:,.0f} % of their mean"
    )


def _number(name: str) -> Words:
    return lambda value: f"no {name}" if math.isnan(value) else f"{name} {value:g}"


def _category(name: str, values: Sequence[str]) -> Words:
    return lambda value: f"{name} missing or unlisted" if math.isnan(value) else f"{name} {values[int(value)]}"
