"""Bring the tables of an earlier version, which counted in hours, up to date."""

import sqlite3

from processing.store.sqlite.schema import has_column, has_table, set_facts

FORMER_TABLES = ("buckets", "ticks", "labels", "reported", "frauds", "tail")


def migrate(db: sqlite3.Connection) -> None:
    """Drop what an earlier version counted, within a transaction of `db`, before `schema.create_tables`.

    Decisions, reports and what they are bound to stay. The store then tells that no refresh has filled it.
    """
    if not has_table(db, "decisions") or has_table(db, "profiles"):
        return
    for table in FORMER_TABLES:
        db.execute(f"DROP TABLE IF EXISTS {table}")
    if not has_column(db, "decisions", "extras"):
        db.execute("ALTER TABLE decisions ADD COLUMN extras TEXT")
    (last,) = db.execute("SELECT ifnull(max(number), 0) FROM decisions").fetchone()
    set_facts(db, {"horizon": 0, "refresh": 0, "done": 0, "read": 0, "migrated": last})
