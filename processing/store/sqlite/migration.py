"""Bring the tables of an earlier version up to date."""

import sqlite3

from processing.durations import HOUR_US
from processing.features.contract_windows import fraud_tile
from processing.features.state_plan import StatePlan
from processing.store.sqlite.labels import relabel
from processing.store.sqlite.rows import known_decision
from processing.store.sqlite.schema import has_column, has_table
from processing.store.sqlite.tiles import table_of


def migrate(db: sqlite3.Connection, plan: StatePlan) -> None:
    """Change the tables of an earlier version to what `schema` says, within a transaction of `db`."""
    for table, column in (("tail", "content"), ("tail", "extras"), ("decisions", "extras")):
        if not has_column(db, table, column):
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
    if has_table(db, "frauds") and has_column(db, "frauds", "transaction_id"):
        for (key,) in db.execute("SELECT transaction_id FROM frauds").fetchall():
            if decision := known_decision(db, key):
                relabel(db, decision.event, True)
        db.execute("DROP TABLE frauds")
    if has_table(db, "buckets"):
        _tiles_from_buckets(db, plan)


def _tiles_from_buckets(db: sqlite3.Connection, plan: StatePlan) -> None:
    """Turn buckets of hours, which an earlier version counted in, into tiles."""
    squares = "n, s, q & 134217727, (q >> 27) & 134217727, q >> 54"  # limbs, as `aggregates.square_limbs` makes them
    for index, (entity, windows) in enumerate(zip(plan.entities, plan.windows, strict=True)):
        table = table_of(entity)
        db.execute(
            f"INSERT INTO {table} SELECT key, 1, hour, refresh, {squares} FROM buckets WHERE entity = ?", [index]
        )
        db.execute(f"INSERT INTO {table} SELECT key, 0, time_us, 0, {squares} FROM ticks WHERE entity = ?", [index])
        frauds = db.execute("SELECT key, hour, f, g FROM buckets WHERE entity = ? AND f <> 0", [index]).fetchall()
        known = [(entity, key, fraud_tile(windows, hour * HOUR_US, None), f, g) for key, hour, f, g in frauds]
        db.executemany("INSERT INTO frauds VALUES (?, ?, ?, ?, ?)", known)
    for name in ("buckets", "ticks", "reported"):
        db.execute(f"DROP TABLE IF EXISTS {name}")
