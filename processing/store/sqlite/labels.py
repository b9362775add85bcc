"""Labels in the SQLite store: which counted events are known to be fraud.

Each function works within a transaction of `db`.
"""

import sqlite3

from processing.features.state_plan import StatePlan
from processing.store.decisions import Event
from processing.store.sqlite.counting import seen_by
from processing.store.sqlite.rows import content_of
from processing.store.sqlite.tiles import add_fraud


def count_report(db: sqlite3.Connection, plan: StatePlan, event: Event, is_fraud: bool) -> None:
    """Apply a report, if the decided event is counted."""
    if is_counted(db, event):
        mark(db, plan, event, is_fraud)


def is_counted(db: sqlite3.Connection, event: Event) -> bool:
    """Whether a decided event is counted, as far as the store knows."""
    counted = (
        "SELECT NOT EXISTS (SELECT 1 FROM displaced WHERE transaction_id = ?1) AND ("
        " ?2 >= (SELECT value FROM facts WHERE name = 'horizon')"
        " OR (SELECT number FROM decisions WHERE transaction_id = ?1)"
        "  <= (SELECT value FROM facts WHERE name = 'read')"
        " OR EXISTS (SELECT 1 FROM labels WHERE transaction_id = ?1 AND content = ?3))"
    )
    (result,) = db.execute(counted, (event.transaction_id, event.hour, content_of(event))).fetchone()
    return bool(result)


def mark(db: sqlite3.Connection, plan: StatePlan, event: Event, is_fraud: bool) -> None:
    """Count an event as fraud or as legitimate."""
    if change := relabel(db, event, is_fraud):
        for each in seen_by(plan, event):
            add_fraud(db, plan.entities[each.entity], each, change)


def relabel(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Note whether an event counts as fraud; returns the change in its fraud count: -1, 0 or 1."""
    key = (event.transaction_id, content_of(event))
    before = db.execute("SELECT fraud FROM labels WHERE transaction_id = ? AND content = ?", key).fetchone()
    change = int(is_fraud) - (before[0] if before else 0)
    if change:
        db.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", (*key, event.time_us, is_fraud))
    return change


def forget_label(db: sqlite3.Connection, plan: StatePlan, event: Event) -> None:
    """Remove an event's label: it no longer counts."""
    mark(db, plan, event, False)
    db.execute("DELETE FROM labels WHERE transaction_id = ? AND content = ?", (event.transaction_id, content_of(event)))
