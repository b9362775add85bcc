"""Events and decisions as rows of the SQLite store."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from processing.store.decisions import Decision, Event

DECISION = (
    "transaction_id, time_us, amount, keys, decision, score, threshold, model_version, features, decided_at, is_fraud,"
    " reasons"
)


def content_of(event: Event) -> str:
    """What distinguishes two transactions with the same id."""
    return json.dumps([event.time_us, event.amount, *event.keys])


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row of id, time, amount and keys."""
    transaction_id, time_us, amount, keys = row
    return Event(transaction_id, time_us, amount, tuple(json.loads(keys)))


def decision_of(row: tuple[Any, ...]) -> Decision:
    """The decision of a row with the columns DECISION."""
    *event, decision, score, threshold, version, features, decided_at, is_fraud, reasons = row
    return Decision(
        event_of(event),
        decision,
        score,
        threshold,
        version,
        features,
        datetime.fromtimestamp(decided_at, UTC),
        None if is_fraud is None else bool(is_fraud),
        reasons,
    )


def row_of(decision: Decision) -> tuple[Any, ...]:
    """The values of the columns DECISION; no label yet."""
    event = decision.event
    return (
        event.transaction_id,
        event.time_us,
        event.amount,
        json.dumps(event.keys),
        decision.decision,
        decision.score,
        decision.threshold,
        decision.model_version,
        decision.features,
        decision.decided_at.timestamp(),
        None,
        decision.reasons,
    )


def known_decision(db: sqlite3.Connection, transaction_id: str) -> Decision | None:
    """The decision recorded under an id, if any."""
    row = db.execute(f"SELECT {DECISION} FROM decisions WHERE transaction_id = ?", [transaction_id]).fetchone()
    return decision_of(row) if row else None
