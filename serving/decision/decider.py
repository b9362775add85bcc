"""Decide one transaction, without HTTP: recall its state, compute features, score, decide, record."""

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
from serving.decision.rules import FRAUD, decide

Behaviour = Literal["known", "none", "unavailable"]


class DecisionRequest(NamedTuple):
    """A transaction for a model to decide. `extras` is [1, x], from `FeatureSet.encode` of the model's features."""

    event: Event
    extras: Floats
    model: LoadedModel


class Answer(NamedTuple):
    """The decision that stands, whether it was made before, and what was known of earlier transactions.

    behaviour: "known": everything on record; "none": the contract has no entities, so there is nothing to know;
        "unavailable": the store did not answer, so the features that need it are missing and nothing was recorded
    """

    decision: Decision
    repeated: bool
    behaviour: Behaviour


class Decider:
    """Decides transactions of one contract with one online store. Safe for many threads.

    `store` may be None for a contract without entities. Then nothing is known of earlier transactions, nothing is
    recorded, and the same id sent twice is decided twice.
    """

    def __init__(self, features: FeatureSet, store: OnlineStore | None) -> None:
        self.features, self.store = features, store

    def decide(self, event: Event, extras: Floats, model: LoadedModel) -> Decision:
        """The decision that stands for a transaction. See `answer`."""
        return self.answer(event, extras, model).decision

    def answer(self, event: Event, extras: Floats, model: LoadedModel) -> Answer:
        """Decide a transaction and record it, or recall the earlier decision.

        `extras` is [1, x], from `FeatureSet.encode` of the model's features. Raises Conflict if the id was used for
        another transaction, and StoreUnavailable; in both cases nothing is recorded or counted.
        """
        (answer,) = self.answer_all([DecisionRequest(event, extras, model)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer_all(self, requests: Sequence[DecisionRequest], *, wait: bool = True) -> list[Answer | Exception]:
        """Decide several transactions in turn, in one transaction of the store if it can.

        Returns an answer for each, or the error that concerns it alone. Raises StoreUnavailable, or StoreBusy without
        `wait`; then none of them is recorded or counted.
        """
        if self.store is None:
            return [self._attempt(request, None, []) for request in requests]
        with self.store.together(wait=wait) as ledger:
            return [self._answer(request, ledger) for request in requests]

    def decide_without_store(self, request: DecisionRequest) -> Answer:
        """Decide a transaction from its own fields alone. Nothing is recorded, counted or recognised as repeated."""
        return Answer(self._score(*request, None), False, "unavailable")

    def tidy(self) -> None:
        """See `OnlineStore.tidy`. Errors are left to the calls that matter."""
        if self.store is not None:
            with contextlib.suppress(StoreUnavailable):
                self.store.tidy()

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        """Store the label of a transaction. Raises NotFound if it was not decided here."""
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
        """See `OnlineStore.search`. Without a store the page is empty."""
        return self.store.search(search, limit, after, newer=newer) if self.store else DecisionPage([])

    def _answer(self, request: DecisionRequest, ledger: Ledger) -> Answer | Exception:
        known, state = ledger.recall(request.event, request.model.plan)
        answer = self._attempt(request, known, state)
        if not isinstance(answer, Answer) or answer.repeated:
            return answer
        standing = ledger.record(answer.decision)
        if standing is answer.decision:
            return answer
        # Another request with this id came in between; its decision stands for both.
        return self._attempt(request, standing, state)

    def _attempt(self, request: DecisionRequest, known: Decision | None, state: list[int]) -> Answer | Exception:
        """The answer, given the decision on record if there is one; or the error it raised."""
        try:
            if known:
                return Answer(_same_transaction(known, request.event), True, "known")
            return Answer(self._score(*request, state), False, "known" if state else "none")
        except Exception as error:  # noqa: BLE001 - an error in one transaction must not affect the others
            return error

    def _score(self, event: Event, extras: Floats, model: LoadedModel, state: list[int] | None) -> Decision:
        row = model.features.compute_one(event.amount, event.time_us, state, extras)
        score = model.score(row)
        outcome = decide(event, score, model.threshold)
        reasons = model.reasons_for(row) if outcome == FRAUD else None
        return Decision(
            event=event,
            decision=outcome,
            score=score,
            threshold=model.threshold,
            model_version=model.version,
            features=row.astype("<f8").tobytes(),
            decided_at=datetime.now(UTC),
            reasons=to_text(reasons[0]) if reasons else None,
        )


def _same_transaction(known: Decision, event: Event) -> Decision:
    if known.event != event:
        raise Conflict(
            f"the id {event.transaction_id!r} was already used for another transaction (time, amount or entities "
            "differ); nothing was recorded; give every transaction an id of its own"
        )
    return known
