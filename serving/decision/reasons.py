"""Why a transaction was flagged as fraud, in an analyst's words: the model's contributions, grouped by topic.

Features about one thing (counts over several windows; an amount's ratio and z-score against the same customer's habit)
form a topic, whose contribution is the sum of theirs. Its text describes the feature that contributes most.
`processing.features.feature_set` defines the features, `serving.decision.feature_words` their descriptions.
"""

import json
import math
from collections.abc import Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from processing.contract import Contract
from serving.decision.feature_words import descriptions_of, plain_description
from serving.decision.sentence_parts import Description

MOST_REASONS = 3


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
    feature: str = Field(description="The feature whose value the text describes")
    weight: float = Field(description="What this and related features add to the log-odds of fraud")


class Reasons:
    """The reasons of one contract's decisions."""

    def __init__(self, contract: Contract, names: Sequence[str]) -> None:
        self.contract, self.names = contract, tuple(names)

    @cached_property
    def descriptions(self) -> list[Description]:
        """How to describe each feature, in the order of the names; an unknown one by its name and value."""
        known = descriptions_of(self.contract)
        return [known.get(name) or plain_description(name) for name in self.names]

    def of(self, values: Sequence[float], contributions: Sequence[float]) -> tuple[Reason, ...]:
        """The strongest reasons for fraud, at most `MOST_REASONS`, strongest first. Deterministic.

        `values` and `contributions` are those of the features, in their order.
        """
        topics: dict[str, list[int]] = {}
        for index, description in enumerate(self.descriptions):
            topics.setdefault(description.topic, []).append(index)
        weighed = [(math.fsum(contributions[i] for i in indexes), indexes) for indexes in topics.values()]
        for_fraud = sorted((pair for pair in weighed if pair[0] > 0.0), key=lambda pair: -pair[0])[:MOST_REASONS]
        return tuple(self._reason(weight, indexes, values, contributions) for weight, indexes in for_fraud)

    def _reason(
        self, weight: float, indexes: Sequence[int], values: Sequence[float], contributions: Sequence[float]
    ) -> Reason:
        strongest = max(indexes, key=lambda i: contributions[i])
        text = self.descriptions[strongest].words(values[strongest])
        return Reason(text=text, feature=self.names[strongest], weight=round(weight, 4))


def to_text(reasons: Sequence[Reason]) -> str:
    """Reasons as the text that a store records."""
    return json.dumps([reason.model_dump() for reason in reasons], ensure_ascii=False)


def from_text(text: str) -> list[Reason]:
    """The reasons in a text from a store."""
    return [Reason.model_construct(**entry) for entry in json.loads(text)]
