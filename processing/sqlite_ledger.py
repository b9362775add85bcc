"""The tables of the SQLite store, and what is read and written within one transaction of it."""

import functools
import json
import operator
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from processing.online import Decision, Event
from processing.windows import HOUR_US, Windows, edges, state_since

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    entity INTEGER, key TEXT, hour INTEGER, n INTEGER, s INTEGER, q INTEGER, f INTEGER, g INTEGER, refresh INTEGER,
    PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticks (
    entity INTEGER, key TEXT, time_us INTEGER, n INTEGER, s INTEGER, q INTEGER,
    PRIMARY KEY (entity, key, time_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, transaction_id TEXT UNIQUE, time_us INTEGER, amount INTEGER, keys TEXT,
    decision TEXT, score REAL, threshold REAL, model_version TEXT, features BLOB, decided_at REAL, is_fraud INTEGER,
    reasons TEXT);
CREATE TABLE IF NOT EXISTS frauds (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, transaction_id TEXT, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS reported (
    entity INTEGER, key TEXT, hour INTEGER, f INTEGER, g INTEGER, PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
"""
DECISION = (
    "transaction_id, time_us, amount, keys, decision, score, threshold, model_version, features, decided_at, is_fraud,"
    " reasons"
)
UNCOUNTED = (
    "SELECT value <= ? AND NOT EXISTS (SELECT 1 FROM tail WHERE transaction_id = ?) FROM facts WHERE name = 'horizon'"
)


class Open:
    """The store within a transaction of `db`: see `OnlineStore.together`."""

    def __init__(self, windows: Sequence[Windows], db: sqlite3.Connection) -> None:
        self.windows, self.db = windows, db

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        known = known_decision(self.db, event.transaction_id)
        state: list[int] = []
        for entity, key in enumerate(event.keys):
            state += self.state(entity, key, event)
        return known, state

    def state(self, entity: int, key: str, event: Event) -> list[int]:
        windows, hour = self.windows[entity], event.hour
        places = edges(windows, hour)
        arguments = (entity, key, *places, hour, hour * HOUR_US, event.time_us)
        *between, earlier, ends, after = self.db.execute(_sums(windows), arguments).fetchall()
        since = {}
        sums = (0, 0, 0, 0, 0)
        for place, row in zip(reversed(places), reversed(between), strict=True):
            sums = tuple(map(operator.add, sums, row))
            since[place] = sums
        frauds = None if ends[0] is None else (ends[0], ends[1], after[0])
        return state_since(windows, hour, event.amount, since, earlier, frauds)

    def record(self, decision: Decision) -> Decision:
        event, db = decision.event, self.db
        inserted = db.execute(
            f"INSERT INTO decisions ({DECISION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING",
            (
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
                decision.reasons,
            ),
        ).rowcount
        if not inserted:
            standing = known_decision(db, event.transaction_id)
            assert standing is not None
            return standing
        # What lies before the horizon is the data's to tell; what came with the data's last hour is counted.
        if db.execute(UNCOUNTED, (event.hour, event.transaction_id)).fetchone()[0]:
            count_event(db, event)
        return decision


def known_decision(db: sqlite3.Connection, transaction_id: str) -> Decision | None:
    row = db.execute(f"SELECT {DECISION} FROM decisions WHERE transaction_id = ?", [transaction_id]).fetchone()
    return decision_of(row) if row else None


@functools.cache
def _sums(windows: Windows) -> str:
    """The query for an entity's sums between the edges of its windows and the hour itself, then those of the ticks,
    then the hours of the longest fraud window's first and last fraud, then the count of events after that last hour.

    ?1 entity, ?2 key, then the edges, the hour, and the times that the ticks lie between.
    """
    places = edges(windows, 0)
    of_entity = "FROM buckets WHERE entity = ?1 AND key = ?2 AND hour"
    sums = ", ".join(f"ifnull(sum({column}), 0)" for column in "nsqfg")
    end = len(places) + 3
    between = [f"SELECT {sums} {of_entity} >= ?{place} AND hour < ?{place + 1}" for place in range(3, end)]
    within = (
        "SELECT ifnull(sum(n), 0), ifnull(sum(s), 0), ifnull(sum(q), 0), 0, 0 FROM ticks"
        f" WHERE entity = ?1 AND key = ?2 AND time_us >= ?{end + 1} AND time_us < ?{end + 2}"
    )
    if not windows.fraud_hours:
        nothing = "SELECT NULL, NULL, 0, 0, 0"
        return " UNION ALL ".join([*between, within, nothing, nothing])
    low, high = (places.index(edge) + 3 for edge in windows.fraud_edges(0))
    frauds = f"{of_entity} >= ?{low} AND hour < ?{high} AND f > 0"
    ends = f"SELECT min(hour), max(hour), 0, 0, 0 {frauds}"
    after = f"SELECT ifnull(sum(n), 0), 0, 0, 0, 0 {of_entity} > (SELECT max(hour) {frauds}) AND hour < ?{high}"
    return " UNION ALL ".join([*between, within, ends, after])


@functools.cache
def _additions(entities: int) -> tuple[str, str]:
    """The statements that add an event of so many entities to its buckets and ticks. ?1 time, ?2 hour, ?3 amount,
    ?4 its square, and the keys."""
    keys = [f"({entity}, ?{entity + 5}" for entity in range(entities)]
    buckets, ticks = (
        ", ".join(f"{key}, ?2, 1, ?3, ?4, 0, 0, 0)" for key in keys),
        ", ".join(f"{key}, ?1, 1, ?3, ?4)" for key in keys),
    )
    added = "ON CONFLICT DO UPDATE SET n = n + 1, s = s + excluded.s, q = q + excluded.q"
    return f"INSERT INTO buckets VALUES {buckets} {added}", f"INSERT INTO ticks VALUES {ticks} {added}"


def count_event(db: sqlite3.Connection, event: Event) -> None:
    for statement in _additions(len(event.keys)):
        db.execute(statement, (event.time_us, event.hour, event.amount, event.amount * event.amount, *event.keys))


def count_report(db: sqlite3.Connection, event: Event, is_fraud: bool) -> None:
    """Count a decided event as a fraud or as none, now and after the buckets are set anew."""
    if change := mark(db, event, is_fraud):
        note(db, event, change)


def mark(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Count an event as a fraud or as none, if it is not so already; returns by how much that changed its buckets."""
    if is_fraud:
        change = db.execute("INSERT OR IGNORE INTO frauds VALUES (?)", [event.transaction_id]).rowcount
    else:
        change = -db.execute("DELETE FROM frauds WHERE transaction_id = ?", [event.transaction_id]).rowcount
    if change:
        for entity, key in enumerate(event.keys):
            db.execute(
                "UPDATE buckets SET f = f + ?, g = g + ? WHERE entity = ? AND key = ? AND hour = ?",
                (change, change * event.amount, entity, key, event.hour),
            )
    return change


def note(db: sqlite3.Connection, event: Event, change: int) -> None:
    """Remember what a report changes, for the buckets that a refresh is about to set."""
    for entity, key in enumerate(event.keys):
        db.execute(
            "INSERT INTO reported VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET f = f + excluded.f, g = g + excluded.g",
            (entity, key, event.hour, change, change * event.amount),
        )


def decision_of(row: tuple[Any, ...]) -> Decision:
    (
        transaction_id,
        time_us,
        amount,
        keys,
        decision,
        score,
        threshold,
        version,
        features,
        decided_at,
        is_fraud,
        reasons,
    ) = row
    return Decision(
        Event(transaction_id, time_us, amount, tuple(json.loads(keys))),
        decision,
        score,
        threshold,
        version,
        features,
        datetime.fromtimestamp(decided_at, UTC),
        None if is_fraud is None else bool(is_fraud),
        reasons,
    )
