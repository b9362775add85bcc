"""The decision of one transaction, without HTTP: the state before it, its features, its score, the record."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.errors import Conflict, NotFound
from processing.features import FeatureSet
from processing.online import Decision, Event, OnlineStore
from serving.scorer import LoadedModel

Floats = NDArray[np.float64]

FRAUD, LEGIT = "fraud", "legit"


class Answer(NamedTuple):
    """The decision that stands, and whether it had been made before."""

    decision: Decision
    repeated: bool


class Decider:
    """Decides transactions of one contract against one online store. Safe from many threads.

    `store` may be None for a contract without entities: nothing is then known of earlier transactions, nothing is
    recorded, and the same id sent twice is decided twice.
    """

    def __init__(self, features: FeatureSet, store: OnlineStore | None) -> None:
        self.features, self.store = features, store

    def decide(self, event: Event, extras: Floats, model: LoadedModel) -> Decision:
        """The decision that stands for a transaction. See `answer`."""
        return self.answer(event, extras, model).decision

    def answer(self, event: Event, extras: Floats, model: LoadedModel) -> Answer:
        """Decide a transaction and record it, or recall what was decided.

        `extras` is [1, x], from `FeatureSet.encode`. Raises Conflict if the id was used for another transaction,
        and StoreUnavailable; nothing is recorded or counted then.
        """
        if self.store is None:
            return Answer(self._judge(event, extras, [], model), False)
        known, state = self.store.recall(event)
        if known:
            return Answer(_same(known, event), True)
        made = self._judge(event, extras, state, model)
        standing = self.store.record(made)
        # Another request with this id may have come in between; then its decision stands, for both.
        return Answer(_same(standing, event), standing is not made)

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        """Take in what a transaction turned out to be. Raises NotFound for one that was not decided here."""
        if self.store is None:
            raise NotFound(
                f"the contract {self.features.contract.name!r} has no entities, so decisions are not recorded and "
                "take no feedback; put the label into the next data file"
            )
        self.store.report(transaction_id, is_fraud)

    def decisions(self, limit: int) -> list[Decision]:
        """The latest recorded decisions, newest first."""
        return self.store.decisions(limit) if self.store else []

    def _judge(self, event: Event, extras: Floats, state: list[int], model: LoadedModel) -> Decision:
        row = self.features.compute(
            np.array([event.amount], np.int64),
            np.array([event.time_us], np.int64),
            np.array([state], np.int64).reshape(1, -1),
            extras,
        )
        score = model.score(row)
        return Decision(
            event=event,
            decision=FRAUD if score >= model.threshold else LEGIT,
            score=score,
            threshold=model.threshold,
            model_version=model.version,
            features=row.astype("<f8").tobytes(),
            decided_at=datetime.now(UTC),
        )


def _same(known: Decision, event: Event) -> Decision:
    if known.event != event:
        raise Conflict(
            f"the id {event.transaction_id!r} was already used for another transaction (time, amount or entities "
            "differ); nothing was recorded; give every transaction an id of its own"
        )
    return known
