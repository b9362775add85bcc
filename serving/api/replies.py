"""What the API answers, and what it is asked besides transactions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from processing.contract import Contract
from processing.store.interface import Decision
from serving.api.problems import FieldProblem, Problem
from serving.api.request import EPOCH, Id
from serving.decision.decide import FRAUD, Answer, Behaviour
from serving.decision.reasons import Reason, from_text

VERSION = "20260322T103000Z-baf3f"
REASONS = (
    "For fraud: what speaks most for it, strongest first; otherwise empty. null for fraud that a model called which "
    "gives none: one that is served by scikit-learn itself, see scorer_reason in its manifest"
)


def _examples(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]}, protected_namespaces=())


class Scored(BaseModel):
    """The decision that stands for a transaction."""

    model_config = _examples(
        transaction_id="T1000001",
        decision="legit",
        score=0.0021,
        threshold=0.0834,
        model_version=VERSION,
        repeated=False,
        behaviour="known",
        reasons=[],
    )

    transaction_id: str
    decision: Literal["fraud", "legit"]
    score: float = Field(description="The probability of fraud")
    threshold: float = Field(description="From this score on the decision is fraud")
    model_version: str
    repeated: bool = Field(description="Whether this id had been decided before; then the first decision stands")
    behaviour: Behaviour = Field(
        description="What was known of earlier transactions. unavailable: the store did not answer, so the decision "
        "was made without them and is not recorded; none: the dataset names nobody"
    )
    reasons: list[Reason] | None = Field(description=REASONS)


class RefusedRow(BaseModel):
    """Why a row of a batch has no decision. Sent by itself, it would have had this status and error."""

    row: int = Field(description="Its place in the batch, from 0")
    status: int
    error: Problem


ScoredRow = Scored | RefusedRow


class Feedback(BaseModel):
    """What a transaction turned out to be."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"transaction_id": "T1000001", "is_fraud": True}]}
    )

    transaction_id: Id
    is_fraud: StrictBool


class Recorded(BaseModel):
    """The label that is on record now."""

    model_config = _examples(transaction_id="T1000001", is_fraud=True)

    transaction_id: str
    is_fraud: bool


class Serving(BaseModel):
    """The model that serves: its manifest, and since when."""

    model_config = ConfigDict(protected_namespaces=())

    version: str
    promoted_at: str
    serving_since: datetime
    trouble: str | None = Field(description="Why a model that was promoted since does not serve")
    manifest: dict[str, Any]


class PastDecision(BaseModel):
    """A decision on record. Whose transaction it was is not part of it."""

    model_config = _examples(
        transaction_id="T1000001",
        event_time="2026-03-22T12:00:00Z",
        amount=59.9,
        decision="legit",
        score=0.0021,
        threshold=0.0834,
        model_version=VERSION,
        decided_at="2026-03-22T12:00:00.120Z",
        is_fraud=None,
        reasons=[],
    )

    transaction_id: str
    event_time: datetime
    amount: float
    decision: Literal["fraud", "legit"]
    score: float
    threshold: float
    model_version: str
    decided_at: datetime
    is_fraud: bool | None = Field(description="As reported later; null while nothing was")
    reasons: list[Reason] | None = Field(description=REASONS)


class PastDecisions(BaseModel):
    """A page of decisions, newest first.

    It reads a bounded number of decisions, so it may be short, or empty, and still have a `next`.
    """

    decisions: list[PastDecision]
    next: str | None = Field(description="The cursor of the page of older ones; null: there are none")
    reached: datetime | None = Field(description="When the oldest decision that was read for this page was made")


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Trouble(BaseModel):
    """Something that is amiss while transactions are answered."""

    name: str
    message: str
    since: datetime


class Ready(BaseModel):
    """Transactions can be scored."""

    model_config = _examples(status="ready", model_version=VERSION, trouble=None, troubles=[])

    status: Literal["ready"] = "ready"
    model_version: str
    trouble: str | None = Field(description="Why a model that was promoted since does not serve")
    troubles: list[Trouble] = Field(description="What is amiss with the online store, runs or labels")


def scored(answer: Answer) -> Scored:
    """The reply to a transaction."""
    made = answer.decision
    return Scored.model_construct(  # values of our own making: not worth checking again on every request
        transaction_id=made.event.transaction_id,
        decision=made.decision,
        score=made.score,
        threshold=made.threshold,
        model_version=made.model_version,
        repeated=answer.repeated,
        behaviour=answer.behaviour,
        reasons=reasons(made),
    )


def refused(row: int, status: int, message: str, fields: Sequence[FieldProblem] = ()) -> RefusedRow:
    """The reply to a row of a batch that is not decided."""
    return RefusedRow(row=row, status=status, error=Problem(message=message, fields=list(fields)))


def reasons(decision: Decision) -> list[Reason] | None:
    """Why a recorded decision is fraud."""
    if decision.reasons is None:
        return None if decision.decision == FRAUD else []
    return from_text(decision.reasons)


def past(decision: Decision, contract: Contract) -> PastDecision:
    """A recorded decision as it is told."""
    return PastDecision.model_construct(
        transaction_id=decision.event.transaction_id,
        event_time=EPOCH + timedelta(microseconds=decision.event.time_us),
        amount=decision.event.amount / contract.minor_units,
        decision=decision.decision,
        score=decision.score,
        threshold=decision.threshold,
        model_version=decision.model_version,
        decided_at=decision.decided_at.astimezone(UTC),
        is_fraud=decision.is_fraud,
        reasons=reasons(decision),
    )
