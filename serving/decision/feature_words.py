"""How the value of each feature reads in words."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from processing.contract import Contract, Entity
from processing.features.words import parse_words

Words = Callable[[float], str]


class Description(NamedTuple):
    """The topic of a feature, and its value in words."""

    topic: str
    words: Words


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
        by_name |= _behaviour(entity, money)
    by_name |= {name: Description(name, _number(name)) for name in contract.numeric}
    by_name |= {name: Description(name, _category(name, values)) for name, values in contract.categorical.items()}
    for feature in contract.declared:
        if feature.says:
            words = parse_words(feature.says, feature.name, f"feature {feature.name!r}")
            by_name[feature.name] = Description(feature.name, words.render)
    return by_name


def _behaviour(entity: Entity, money: Callable[[float], str]) -> dict[str, Description]:
    who, by_name = entity.name, dict[str, Description]()
    for days in entity.windows_days:
        by_name[f"{who}_count_{days}d"] = Description(f"{who} count", _count(who, days))
        by_name[f"{who}_mean_amount_{days}d"] = Description(f"{who} amount", _mean(who, days, money))
        by_name[f"{who}_amount_ratio_{days}d"] = Description(f"{who} amount", _ratio(who, days))
        by_name[f"{who}_amount_zscore_{days}d"] = Description(f"{who} amount", _zscore(who, days))
        by_name[f"{who}_amount_variation_{days}d"] = Description(f"{who} amount", _variation(who, days))
    *shorter, longest = entity.windows_days
    for days in shorter:
        by_name[f"{who}_amount_trend_{days}d"] = Description(f"{who} amount", _trend(who, days, longest))
    for days in entity.fraud_windows_days:
        by_name[f"{who}_fraud_count_{days}d"] = Description(f"{who} fraud", _frauds(who, days))
        by_name[f"{who}_fraud_rate_{days}d"] = Description(f"{who} fraud", _fraud_rate(who, days))
        by_name[f"{who}_fraud_mean_amount_{days}d"] = Description(f"{who} fraud", _fraud_mean(who, days, money))
    for days in entity.fraud_windows_days[-1:]:
        for which in ("first", "last"):
            name = f"{who}_hours_since_{which}_fraud_{days}d"
            by_name[name] = Description(f"{who} fraud", _since(who, days, which))
        by_name[f"{who}_count_since_last_fraud_{days}d"] = Description(f"{who} fraud", _passed(who, days))
    return by_name


def _money(contract: Contract) -> Callable[[float], str]:
    return lambda value: f"{value:,.{contract.amount_decimals}f}"


def _span(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}"


def _count(who: str, days: int) -> Words:
    def words(value: float) -> str:
        if value == 1.0:
            return f"this {who}'s first transaction in {_span(days)}"
        return f"{value:,.0f} transactions of this {who} in {_span(days)}"

    return words


def _mean(who: str, days: int, money: Callable[[float], str]) -> Words:
    return lambda value: f"this {who}'s mean amount {money(value)} over {_span(days)}"


def _ratio(who: str, days: int) -> Words:
    return lambda value: (
        f"no earlier amount of this {who} in {_span(days)}"
        if math.isnan(value)
        else f"amount {value:,.1f}x this {who}'s {days}-day mean"
    )


def _zscore(who: str, days: int) -> Words:
    return lambda value: (
        f"at most one earlier transaction of this {who} in {_span(days)}"
        if math.isnan(value)
        else f"amount {abs(value):,.1f} standard deviations {'above' if value >= 0 else 'below'} "
        f"this {who}'s {days}-day mean"
    )


def _frauds(who: str, days: int) -> Words:
    return lambda value: f"{value:,.0f} known fraud{'' if value == 1.0 else 's'} at this {who} over {_span(days)}"


def _fraud_rate(who: str, days: int) -> Words:
    return lambda value: f"{who}'s fraud rate {100 * value:.3g} % over {_span(days)}"


def _fraud_mean(who: str, days: int, money: Callable[[float], str]) -> Words:
    return lambda value: (
        _no_fraud(who, days)
        if math.isnan(value)
        else f"known frauds at this {who} had a mean amount of {money(value)} over {_span(days)}"
    )


def _since(who: str, days: int, which: str) -> Words:
    return lambda value: (
        _no_fraud(who, days)
        if math.isnan(value)
        else f"{which} known fraud at this {who} in {_span(days)} was {value / 24:,.0f} days ago"
    )


def _passed(who: str, days: int) -> Words:
    return lambda value: (
        _no_fraud(who, days)
        if math.isnan(value)
        else f"{value:,.0f} transactions at this {who} after its last known fraud"
    )


def _no_fraud(who: str, days: int) -> str:
    return f"no known fraud at this {who} over {_span(days)}"


def _trend(who: str, days: int, longest: int) -> Words:
    return lambda value: (
        f"nothing to compare this {who}'s latest amounts with in {_span(longest)}"
        if math.isnan(value)
        else f"this {who}'s mean amount over {_span(days)} is {value:,.1f}x that of the days before"
    )


def _variation(who: str, days: int) -> Words:
    return lambda value: (
        f"at most one earlier amount of this {who} in {_span(days)}"
        if math.isnan(value)
        else f"this {who}'s amounts over {_span(days)} vary by {100 * value:,.0f} % of their mean"
    )


def _number(name: str) -> Words:
    return lambda value: f"no {name}" if math.isnan(value) else f"{name} {value:g}"


def _category(name: str, values: Sequence[str]) -> Words:
    return lambda value: f"{name} missing or unlisted" if math.isnan(value) else f"{name} {values[int(value)]}"
