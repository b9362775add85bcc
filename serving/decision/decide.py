"""The decision of one transaction, without HTTP: the state before it, its features, its score, the record."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from processing.arrays import Floats
from processing.errors import Conflict, NotFound
from processing.features.feature_set import FeatureSet
from processing.store.decisions import Decision, Event
from processing.store.interface import Ledger, OnlineStore, StoreUnavailable
from processing.store.lookup import DecisionPage, Search
from serving.decision.loaded_model import LoadedModel
from serving.decision.reasons import to_text

FRAUD, LEGIT = "fraud", "legit"
Behaviour = Literal["known", "none", "unavailable"]


class Asked(NamedTuple):
    """A transaction to be decided by a model. `extras` is [1, x], from `FeatureSet.encode`."""

    event: Event
    extras: Floats
    model: LoadedModel


class Answer(NamedTuple):
    """The decision that stands, whether it had been made before, and what it knew of earlier transactions.

    "known": all that is recorded; "none": the contract has no entities, so there is nothing to know; "unavailable":
    the store did not answer, so the features that need it were missing, and nothing was recorded.
    """

    decision: Decision
    repeated: bool
    behaviour: Behaviour


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
        (answer,) = self.answer_all([Asked(event, extras, model)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer_all(self, asked: Sequence[Asked], *, wait: bool = True) -> list[Answer | Exception]:
        """Decide several transactions, one after the other, in one transaction of the store if it can.

        Gives each one's answer, or the error that concerns it alone. Raises StoreUnavailable, and StoreBusy without
        `wait`; then none of them is recorded or counted.
        """
        if self.store is None:
            return [self._tried(one, None, []) for one in asked]
        with self.store.together(wait=wait) as ledger:
            return [self._answer(one, ledger) for one in asked]

    def without_store(self, asked: Asked) -> Answer:
        """Decide a transaction by what is in it alone. Nothing is recorded, counted or recognised as repeated."""
        return Answer(self._judge(*asked, None), False, "unavailable")

    def tidy(self) -> None:
        """See `OnlineStore.tidy`; what goes wrong is told by the calls that matter."""
        if self.store is not None:
            with contextlib.suppress(StoreUnavailable):
                self.store.tidy()

    def _answer(self, asked: Asked, ledger: Ledger) -> Answer | Exception:
        known, state = ledger.recall(asked.event)
        answer = self._tried(asked, known, state)
        if not isinstance(answer, Answer) or answer.repeated:
            return answer
        standing = ledger.record(answer.decision)
        if standing is answer.decision:
            return answer
        # Another request with this id came in between; then its decision stands, for both.
        return self._tried(asked, standing, state)

    def _tried(self, asked: Asked, known: Decision | None, state: list[int]) -> Answer | Exception:
        """The answer when `known` is on record, not recorded yet if that is None; or what was wrong with it."""
        try:
            if known:
                return Answer(_same(known, asked.event), True, "known")
            return Answer(self._judge(*asked, state), False, "known" if state else "none")
        except Exception as error:  # noqa: BLE001 - one transaction's error is not that of the others
            return error

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

    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> DecisionPage:
        """See `OnlineStore.search`; nothing is found where nothing is recorded."""
        return self.store.search(search, limit, after, newer=newer) if self.store else DecisionPage([])

    def _judge(self, event: Event, extras: Floats, model: LoadedModel, state: list[int] | None) -> Decision:
        row = self.features.compute_one(event.amount, event.time_us, state, extras)
        score = model.score(row)
        fraud = score >= model.threshold
        reasons = model.reasons_for(row) if fraud else None
        return Decision(
            event=event,
            decision=FRAUD if fraud else LEGIT,
            score=score,
            threshold=model.threshold,
            model_version=model.version,
            features=row.astype("<f8").tobytes(),
            decided_at=datetime.now(UTC),
            reasons=to_text(reasons[0]) if reasons else None,
        )


def _same(known: Decision, event: Event) -> Decision:
    if known.event != event:
        raise Conflict(
            f"the id {event.transaction_id!r} was already used for another transaction (time, amount or entities "
            "differ); nothing was recorded; give every transaction an id of its own"
        )
    return known
