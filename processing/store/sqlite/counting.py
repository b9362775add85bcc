"""Event counters of the SQLite store. Each function works within a transaction of `db`."""

import functools
import sqlite3

from processing.features.entity_keys import EntityKeys
from processing.store.decisions import Event
from processing.store.sqlite.labels import forget_label


def is_uncounted(db: sqlite3.Connection, event: Event) -> bool:
    """Whether an event lies after the horizon and no event of the tables was counted there under its id."""
    uncounted = (
        "SELECT value <= ? AND NOT EXISTS (SELECT 1 FROM tail WHERE transaction_id = ?)"
        " FROM facts WHERE name = 'horizon'"
    )
    return bool(db.execute(uncounted, (event.hour, event.transaction_id)).fetchone()[0])


def count_event(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event) -> None:
    """Add an event to its buckets and ticks."""
    keys = entity_keys.of(event.keys)
    for statement in _additions(len(keys)):
        db.execute(statement, (event.time_us, event.hour, event.amount, event.amount * event.amount, *keys))


def uncount_event(db: sqlite3.Connection, entity_keys: EntityKeys, event: Event) -> None:
    """Remove an event that was counted from the horizon on."""
    forget_label(db, entity_keys, event)
    for table, column, at in (("buckets", "hour", event.hour), ("ticks", "time_us", event.time_us)):
        for entity, key in enumerate(entity_keys.of(event.keys)):
            db.execute(
                f"UPDATE {table} SET n = n - 1, s = s - ?, q = q - ? WHERE entity = ? AND key = ? AND {column} = ?",
                (event.amount, event.amount * event.amount, entity, key, at),
            )


@functools.cache
def _additions(entities: int) -> tuple[str, str]:
    """The statements that add an event to the buckets and ticks of so many entities.

    ?1 time, ?2 hour, ?3 amount, ?4 its square, then the keys.
    """
    keys = [f"({entity}, ?{entity + 5}" for entity in range(entities)]
    buckets, ticks = (
        ", ".join(f"{key}, ?2, 1, ?3, ?4, 0, 0, 0)" for key in keys),
        ", ".join(f"{key}, ?1, 1, ?3, ?4)" for key in keys),
    )
    added = "ON CONFLICT DO UPDATE SET n = n + 1, s = s + excluded.s, q = q + excluded.q"
    return f"INSERT INTO buckets VALUES {buckets} {added}", f"INSERT INTO ticks VALUES {ticks} {added}"
