"""A transaction as the online store counts it, and the decision made about it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from processing.durations import HOUR_US


@dataclass(frozen=True)
class Event:
    """A transaction as the windows see it. `keys` are the values of the contract's `key_columns`.

    `extras` are the names and values of further columns that aggregates read. They do not tell transactions apart.
    The key of an entity, which may have several columns, is made from them by `processing.features.entity_keys`.
    """

    transaction_id: str
    time_us: int
    amount: int  # minor units
    keys: tuple[str, ...]
    extras: tuple[tuple[str, Any], ...] = field(default=(), compare=False)

    @property
    def hour(self) -> int:
        """Its hour since 1970."""
        return self.time_us // HOUR_US


@dataclass(frozen=True)
class Decision:
    """The decision about a transaction, and what it was based on."""

    event: Event
    decision: str
    score: float
    threshold: float
    model_version: str
    features: bytes  # float64, in the order of the model's features
    decided_at: datetime
    is_fraud: bool | None = None  # the label reported later
    reasons: str | None = None  # JSON from `serving.decision.reasons`; None if legitimate or not explained
