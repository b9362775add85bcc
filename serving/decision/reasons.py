"""Why a transaction was called fraud, in words an analyst uses: the model's contributions, brought together by topic.

Features that tell of one thing (counts over several windows, an amount's ratio and z-score to the same customer's
habit) form a topic, whose contribution is the sum of theirs. Its words are those of the feature that contributes most.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from processing.contract import Contract, Entity

MOST = 3
Words = Callable[[float], str]


class Reason(BaseModel):
    """One thing that speaks for fraud."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "text": "amount 9.3x this customer's 30-day mean",
                    "feature": "customer_amount_ratio_30d",
                    "weight": 1.9,
                }
            ]
        },
    )

    text: str
    feature: str = Field(description="The feature whose value the text tells")
    weight: float = Field(description="What it and the features akin to it add to the log-odds of fraud")


class Told(NamedTuple):
    """How a feature is told: its topic, and its value in words."""

    topic: str
    words: Words


class Reasons:
    """The reasons of one contract's decisions."""

    def __init__(self, contract: Contract, names: Sequence[str]) -> None:
        self.contract, self.names = contract, tuple(names)

    @cached_property
    def told(self) -> list[Told]:
        """How each feature is told, in the order of the names; one that is not known here by its name and value."""
        known = _own(self.contract)
        return [known.get(name) or Told(name, _plain(name)) for name in self.names]

    def of(self, values: Sequence[float], contributions: Sequence[float]) -> tuple[Reason, ...]:
        """What speaks most for fraud, strongest first, at most `MOST`; the same for the same input.

        `values` and `contributions` are those of the features, in their order.
        """
        topics: dict[str, list[int]] = {}
        for place, told in enumerate(self.told):
            topics.setdefault(told.topic, []).append(place)
        weighed = [(math.fsum(contributions[i] for i in places), places) for places in topics.values()]
        speaking = sorted((pair for pair in weighed if pair[0] > 0.0), key=lambda pair: -pair[0])[:MOST]
        return tuple(self._reason(weight, places, values, contributions) for weight, places in speaking)

    def _reason(
        self, weight: float, places: Sequence[int], values: Sequence[float], contributions: Sequence[float]
    ) -> Reason:
        place = max(places, key=lambda i: contributions[i])
        text = self.told[place].words(values[place])
        return Reason(text=text, feature=self.names[place], weight=round(weight, 4))


def to_text(reasons: Sequence[Reason]) -> str:
    """Reasons as a store keeps them."""
    return json.dumps([reason.model_dump() for reason in reasons], ensure_ascii=False)


def from_text(text: str) -> list[Reason]:
    """Reasons as a store kept them."""
    return [Reason.model_construct(**entry) for entry in json.loads(text)]


def _own(contract: Contract) -> dict[str, Told]:
    """The features that `processing.features.feature_set` makes of a contract."""
    money = _money(contract)
    told = {
        "amount": Told("amount", lambda v: f"amount {money(v)}"),
        "hour": Told("time", lambda v: f"between {v:02.0f}:00 and {(v + 1) % 24:02.0f}:00 UTC"),
        "weekend": Told("time", lambda v: "on a weekend" if v else "on a weekday"),
    }
    for entity in contract.entities:
        told |= _behaviour(entity, money)
    told |= {name: Told(name, _number(name)) for name in contract.numeric}
    return told | {name: Told(name, _category(name, values)) for name, values in contract.categorical.items()}


def _behaviour(entity: Entity, money: Callable[[float], str]) -> dict[str, Told]:
    who, told = entity.name, dict[str, Told]()
    for days in entity.windows_days:
        told[f"{who}_count_{days}d"] = Told(f"{who} count", _count(who, days))
        told[f"{who}_mean_amount_{days}d"] = Told(f"{who} amount", _mean(who, days, money))
        told[f"{who}_amount_ratio_{days}d"] = Told(f"{who} amount", _ratio(who, days))
        told[f"{who}_amount_zscore_{days}d"] = Told(f"{who} amount", _zscore(who, days))
        told[f"{who}_amount_variation_{days}d"] = Told(f"{who} amount", _variation(who, days))
    for days in entity.windows_days[:-1]:
        told[f"{who}_amount_trend_{days}d"] = Told(f"{who} amount", _trend(who, days, entity.windows_days[-1]))
    for days in entity.fraud_windows_days:
        told[f"{who}_fraud_count_{days}d"] = Told(f"{who} fraud", _frauds(who, days))
        told[f"{who}_fraud_rate_{days}d"] = Told(f"{who} fraud", _fraud_rate(who, days))
        told[f"{who}_fraud_mean_amount_{days}d"] = Told(f"{who} fraud", _fraud_mean(who, days, money))
    for days in entity.fraud_windows_days[-1:]:
        for which in ("first", "last"):
            name = f"{who}_hours_since_{which}_fraud_{days}d"
            told[name] = Told(f"{who} fraud", _since(who, days, which))
        told[f"{who}_count_since_last_fraud_{days}d"] = Told(f"{who} fraud", _passed(who, days))
    return told


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


def _plain(name: str) -> Words:
    return _number(name.replace("_", " "))
