"""Labels in the SQLite store: which counted events count as fraud.

Each function works within a transaction of `db`.
"""

import sqlite3

from processing.features.entity_keys import EntityKeys
from processing.store.decisions import Event
from processing.store.sqlite.rows import content_of


def count_report(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event, is_fraud: bool) -> None:
    """Apply a report to the buckets, and to those that a refresh is about to set, if the decided event is counted."""
    if is_counted(db, event) and (change := mark(db, entity_keys, event, is_fraud)):
        note(db, entity_keys, event, change)


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


def mark(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event, is_fraud: bool) -> int:
    """Count an event as fraud or as legitimate in its buckets; returns the change in its fraud count: -1, 0 or 1."""
    change = relabel(db, event, is_fraud)
    if change:
        for entity, key in enumerate(entity_keys.of(event.keys)):
            db.execute(
                "UPDATE buckets SET f = f + ?, g = g + ? WHERE entity = ? AND key = ? AND hour = ?",
                (change, change * event.amount, entity, key, event.hour),
            )
    return change


def relabel(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Note whether an event counts as fraud; returns the change."""
    key = (event.transaction_id, content_of(event))
    before = db.execute("SELECT fraud FROM labels WHERE transaction_id = ? AND content = ?", key).fetchone()
    change = int(is_fraud) - (before[0] if before else 0)
    if change:
        db.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", (*key, event.time_us, is_fraud))
    return change


def forget_label(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event) -> None:
    """Take an event's label out of its buckets and out of the table."""
    mark(db, entity_keys, event, False)
    db.execute("DELETE FROM labels WHERE transaction_id = ? AND content = ?", (event.transaction_id, content_of(event)))


def note(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event, change: int) -> None:
    """Note what a report changes, for the buckets that a refresh is about to set."""
    for entity, key in enumerate(entity_keys.of(event.keys)):
        db.execute(
            "INSERT INTO reported VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET f = f + excluded.f, g = g + excluded.g",
            (entity, key, event.hour, change, change * event.amount),
        )
