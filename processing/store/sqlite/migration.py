"""Bring the tables of an earlier version up to date."""

import sqlite3

from processing.store.sqlite.labels import relabel
from processing.store.sqlite.rows import known_decision
from processing.store.sqlite.schema import has_table


def migrate(db: sqlite3.Connection) -> None:
    """Change the tables of an earlier version to what `schema.SCHEMA` says, within a transaction of `db`."""
    if not any(name == "content" for _, name, *_ in db.execute("PRAGMA table_info(tail)")):
        db.execute("ALTER TABLE tail ADD COLUMN content TEXT")
    if has_table(db, "frauds"):
        for (key,) in db.execute("SELECT transaction_id FROM frauds").fetchall():
            if decision := known_decision(db, key):
                relabel(db, decision.event, True)
        db.execute("DROP TABLE frauds")
