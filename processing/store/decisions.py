"""A transaction as the online store counts it, and the decision made about it."""

from dataclasses import dataclass
from datetime import datetime

from processing.features.windows import HOUR_US


@dataclass(frozen=True)
class Event:
    """A transaction as the windows see it. `keys` are the values of the contract's `key_columns`.

    The key of an entity, which may have several columns, is made from them by `processing.features.entity_keys`.
    """

    transaction_id: str
    time_us: int
    amount: int  # minor units
    keys: tuple[str, ...]

    @property
    def hour(self) -> int:
        """The hour bucket it falls into."""
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
