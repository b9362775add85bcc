"""Events and decisions as rows of the SQLite store."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from processing.store.decisions import Decision, Event

EVENT = "transaction_id, time_us, amount, keys, extras"
DECISION = f"{EVENT}, decision, score, threshold, model_version, features, decided_at, is_fraud, reasons"


class Numbered(NamedTuple):
    """A decided event, and the number of its decision."""

    event: Event
    number: int


def content_of(event: Event) -> str:
    """What distinguishes two transactions with the same id."""
    return json.dumps([event.time_us, event.amount, *event.keys])


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row with the columns EVENT."""
    transaction_id, time_us, amount, keys, extras = row
    return Event(transaction_id, time_us, amount, tuple(json.loads(keys)), _extras(extras))


def tail_event_of(row: Sequence[Any]) -> Event:
    """The event of a row of id, content and extras."""
    transaction_id, content, extras = row
    time_us, amount, *keys = json.loads(content)
    return Event(transaction_id, time_us, amount, tuple(keys), _extras(extras))


def extras_of(event: Event) -> str | None:
    """An event's extras as text; None without any."""
    return json.dumps(dict(event.extras)) if event.extras else None


def _extras(text: str | None) -> tuple[tuple[str, Any], ...]:
    return tuple(json.loads(text).items()) if text else ()


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
        extras_of(event),
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


def numbered_event(db: sqlite3.Connection, transaction_id: str) -> Numbered | None:
    """The event decided under an id, if any."""
    row = db.execute(f"SELECT number, {EVENT} FROM decisions WHERE transaction_id = ?", [transaction_id]).fetchone()
    return Numbered(event_of(row[1:]), row[0]) if row else None
