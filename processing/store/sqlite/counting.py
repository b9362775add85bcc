"""Which events the SQLite store counts. Each function works within a transaction of `db`."""

import sqlite3
from collections.abc import Iterable

from processing.durations import HOUR_US
from processing.features.state_plan import EntityEvent, StatePlan
from processing.store.decisions import Event
from processing.store.sqlite.rows import EVENT, event_of, extras_of, tail_event_of
from processing.store.sqlite.tiles import add_event, stored_levels, table_of


def seen_by(plan: StatePlan, event: Event) -> list[EntityEvent]:
    """An event as each entity of the plan sees it."""
    return plan.of(event.time_us, event.amount, event.keys, dict(event.extras))


def is_uncounted(db: sqlite3.Connection, event: Event) -> bool:
    """Whether an event lies after the horizon and no event of the tables was counted there under its id."""
    uncounted = (
        "SELECT value <= ? AND NOT EXISTS (SELECT 1 FROM tail WHERE transaction_id = ?)"
        " FROM facts WHERE name = 'horizon'"
    )
    return bool(db.execute(uncounted, (event.hour, event.transaction_id)).fetchone()[0])


def count_event(db: sqlite3.Connection, plan: StatePlan, event: Event) -> None:
    """Add an event to the tiles of its entities."""
    for each in seen_by(plan, event):
        add_event(db, plan.entities[each.entity], each)


def note_tail(db: sqlite3.Connection, event: Event, content: str) -> None:
    """Note that an event of the tables is counted from the horizon on."""
    row = (event.transaction_id, content, extras_of(event))
    db.execute("INSERT OR REPLACE INTO tail (transaction_id, content, extras) VALUES (?, ?, ?)", row)


def count_again(db: sqlite3.Connection, plan: StatePlan, horizon: int, events: Iterable[Event]) -> None:
    """Count the entities of some events anew, from the horizon on: without those events that no longer count.

    A tile cannot give up an event, because it may hold the smallest amount or the last time.
    """
    affected = {(each.entity, each.key) for event in events for each in seen_by(plan, event)}
    if not affected:
        return
    for entity, key in affected:
        windows, table = plan.windows[entity], table_of(plan.entities[entity])
        for level in stored_levels(windows):
            first = horizon * HOUR_US // windows.levels[level]
            db.execute(f"DELETE FROM {table} WHERE key = ? AND level = ? AND number >= ?", (key, level, first))
    for event in live_events(db, horizon):
        for each in seen_by(plan, event):
            if (each.entity, each.key) in affected:
                add_event(db, plan.entities[each.entity], each)


def live_events(db: sqlite3.Connection, horizon: int) -> list[Event]:
    """The events that count from the horizon on: those of the tables, and decided ones that the tables lack."""
    decided = (
        f"SELECT {EVENT} FROM decisions WHERE number >= ? AND time_us >= ?"
        " AND transaction_id NOT IN (SELECT transaction_id FROM displaced)"
        " AND transaction_id NOT IN (SELECT transaction_id FROM tail)"
    )
    (pending,) = db.execute("SELECT value FROM facts WHERE name = 'pending'").fetchone()
    tail = db.execute("SELECT transaction_id, content, extras FROM tail").fetchall()
    rows = db.execute(decided, (pending, horizon * HOUR_US)).fetchall()
    return [*map(tail_event_of, tail), *map(event_of, rows)]
