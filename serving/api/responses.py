"""The API's responses, and its requests other than transactions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from processing.contract import Contract
from processing.store.decisions import Decision
from serving.api.problems import ErrorDetail, FieldError
from serving.api.transaction import EPOCH, Id
from serving.decision.decider import Answer, Behaviour
from serving.decision.reasons import Reason, from_text
from serving.decision.rules import FRAUD

EXAMPLE_VERSION = "20260322T103000Z-baf3f"
REASONS = (
    "For fraud, what contributed most to the score, strongest first; empty for legit. null for fraud if the model "
    "cannot explain its scores, because scikit-learn itself runs it; see scorer_reason in its manifest"
)
REFUSED_MODEL = "Why a newer promoted model was refused; null if there is none"


def _example(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]}, protected_namespaces=())


class ScoreResponse(BaseModel):
    """The decision on a transaction."""

    model_config = _example(
        transaction_id="T1000001",
        decision="legit",
        score=0.0021,
        threshold=0.0834,
        model_version=EXAMPLE_VERSION,
        repeated=False,
        behaviour="known",
        reasons=[],
    )

    transaction_id: str
    decision: Literal["fraud", "legit"]
    score: float = Field(description="The probability of fraud")
    threshold: float = Field(description="A score at or above it is flagged as fraud")
    model_version: str
    repeated: bool = Field(description="Whether this id was decided before; the first decision stands")
    behaviour: Behaviour = Field(
        description="What the decision knew about earlier transactions. known: everything on record; unavailable: the "
        "online store was unavailable, so nothing was known and nothing was recorded; none: the dataset has no entities"
    )
    reasons: list[Reason] | None = Field(description=REASONS)


class RowError(BaseModel):
    """Why a row of a batch was not decided. Sent on its own, it would have had this status and error."""

    row: int = Field(description="Its position in the batch, from 0")
    status: int
    error: ErrorDetail


RowResponse = ScoreResponse | RowError


class Feedback(BaseModel):
    """What a transaction turned out to be."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"transaction_id": "T1000001", "is_fraud": True}]}
    )

    transaction_id: Id
    is_fraud: StrictBool


class FeedbackResponse(BaseModel):
    """The label now on record."""

    model_config = _example(transaction_id="T1000001", is_fraud=True)

    transaction_id: str
    is_fraud: bool


class ModelResponse(BaseModel):
    """The serving model, its manifest, and since when it has been serving."""

    model_config = ConfigDict(protected_namespaces=())

    version: str
    promoted_at: str
    serving_since: datetime
    trouble: str | None = Field(description=REFUSED_MODEL)
    manifest: dict[str, Any]


class ListedDecision(BaseModel):
    """A decision on record. It does not say whose transaction it was."""

    model_config = _example(
        transaction_id="T1000001",
        event_time="2026-03-22T12:00:00Z",
        amount=59.9,
        decision="legit",
        score=0.0021,
        threshold=0.0834,
        model_version=EXAMPLE_VERSION,
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
    is_fraud: bool | None = Field(description="The reported label; null if none was reported")
    reasons: list[Reason] | None = Field(description=REASONS)


class DecisionsResponse(BaseModel):
    """A page of decisions, newest first.

    The server reads a limited number of decisions for a page, so a page may be short, or empty, and still have a
    `next`.
    """

    decisions: list[ListedDecision]
    next: str | None = Field(description="The cursor for the page of older decisions; null if there are none")
    reached: datetime | None = Field(description="When the oldest decision read for this page was made")


class LiveResponse(BaseModel):
    """The process responds."""

    status: Literal["live"] = "live"


class TroubleResponse(BaseModel):
    """A problem that persists while the API is serving."""

    name: str
    message: str
    since: datetime


class ReadyResponse(BaseModel):
    """A model is loaded, so transactions can be scored."""

    model_config = _example(status="ready", model_version=EXAMPLE_VERSION, trouble=None, troubles=[])

    status: Literal["ready"] = "ready"
    model_version: str
    trouble: str | None = Field(description=REFUSED_MODEL)
    troubles: list[TroubleResponse] = Field(description="Problems with the online store, the runs or the labels")


def score_response(answer: Answer) -> ScoreResponse:
    """The response for a decided transaction."""
    decision = answer.decision
    return ScoreResponse.model_construct(  # our own values need no validation, which would cost time on each request
        transaction_id=decision.event.transaction_id,
        decision=decision.decision,
        score=decision.score,
        threshold=decision.threshold,
        model_version=decision.model_version,
        repeated=answer.repeated,
        behaviour=answer.behaviour,
        reasons=reasons_of(decision),
    )


def row_error(row: int, status: int, message: str, fields: Sequence[FieldError] = ()) -> RowError:
    """The response for a row of a batch that was not decided."""
    return RowError(row=row, status=status, error=ErrorDetail(message=message, fields=list(fields)))


def reasons_of(decision: Decision) -> list[Reason] | None:
    """The reasons of a recorded decision; see the field `reasons`."""
    if decision.reasons is None:
        return None if decision.decision == FRAUD else []
    return from_text(decision.reasons)


def listed_decision(decision: Decision, contract: Contract) -> ListedDecision:
    """A recorded decision as the API shows it."""
    return ListedDecision.model_construct(
        transaction_id=decision.event.transaction_id,
        event_time=EPOCH + timedelta(microseconds=decision.event.time_us),
        amount=decision.event.amount / contract.minor_units,
        decision=decision.decision,
        score=decision.score,
        threshold=decision.threshold,
        model_version=decision.model_version,
        decided_at=decision.decided_at.astimezone(UTC),
        is_fraud=decision.is_fraud,
        reasons=reasons_of(decision),
    )
