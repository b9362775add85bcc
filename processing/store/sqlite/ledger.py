"""The tables of the SQLite store, and what is read and written within one transaction of it.

facts        contract (its digest), fingerprint (of its entries that the store is bound to); of the last refresh its
             horizon and number, and read and pending of its Comparison; began: when it did (us since 1970); done: the
             number of the last one that was finished; labelled: the time of the newest transaction whose label is known
buckets      an entity's hours
ticks        its moments from the horizon on: an event sees those of its hour before it, not those at its time
tail         the data's events from the horizon on
decisions    what was decided, by the order of recording, with the label reported last
displaced    ids of decisions that do not count, because the data has another transaction under their id
labels       which counted events the buckets hold as fraud, or did until a report said otherwise
reports      what was reported, in order
reported     what reports since the data was read change in the buckets that a refresh is about to set
"""

import functools
import json
import operator
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from processing.features.windows import HOUR_US, Windows, edges, state_since
from processing.store.interface import Decision, Event

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    entity INTEGER, key TEXT, hour INTEGER, n INTEGER, s INTEGER, q INTEGER, f INTEGER, g INTEGER, refresh INTEGER,
    PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticks (
    entity INTEGER, key TEXT, time_us INTEGER, n INTEGER, s INTEGER, q INTEGER,
    PRIMARY KEY (entity, key, time_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS displaced (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, transaction_id TEXT UNIQUE, time_us INTEGER, amount INTEGER, keys TEXT,
    decision TEXT, score REAL, threshold REAL, model_version TEXT, features BLOB, decided_at REAL, is_fraud INTEGER,
    reasons TEXT);
CREATE TABLE IF NOT EXISTS labels (
    transaction_id TEXT, content TEXT, time_us INTEGER, fraud INTEGER, PRIMARY KEY (transaction_id, content))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, transaction_id TEXT, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS reported (
    entity INTEGER, key TEXT, hour INTEGER, f INTEGER, g INTEGER, PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
"""
DECISION = (
    "transaction_id, time_us, amount, keys, decision, score, threshold, model_version, features, decided_at, is_fraud,"
    " reasons"
)
FACTS = ("horizon", "refresh", "read", "pending", "began", "done", "labelled")
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
        # Before the horizon only a run knows what the data has; what came with the data's tail is counted.
        if db.execute(UNCOUNTED, (event.hour, event.transaction_id)).fetchone()[0]:
            count_event(db, event)
            return decision
        tail = db.execute("SELECT content FROM tail WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        if tail and tail[0] not in (content_of(event), None):
            db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [event.transaction_id])
        return decision


def content_of(event: Event) -> str:
    """What tells apart two transactions of one id."""
    return json.dumps([event.time_us, event.amount, *event.keys])


def fact(db: sqlite3.Connection, name: str) -> int:
    """One of FACTS."""
    value: int = db.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()[0]
    return value


def set_fact(db: sqlite3.Connection, name: str, value: int) -> None:
    """Set one of FACTS, which a store of an earlier version may lack."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def is_finished(facts: Mapping[str, int]) -> bool:
    """Whether the refresh that began last was finished. A store of an earlier version does not say, and counts so."""
    return facts.get("done", facts["refresh"]) == facts["refresh"]


def note_labelled(db: sqlite3.Connection, time_us: int) -> None:
    """Note that the label of a transaction of that time is known."""
    newest = "ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"
    db.execute(f"INSERT INTO facts VALUES ('labelled', ?) {newest}", [time_us])


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


def uncount_event(db: sqlite3.Connection, event: Event) -> None:
    """Take an event back that was counted from the horizon on."""
    mark(db, event, False)
    db.execute("DELETE FROM labels WHERE transaction_id = ? AND content = ?", (event.transaction_id, content_of(event)))
    for table, column, place in (("buckets", "hour", event.hour), ("ticks", "time_us", event.time_us)):
        for entity, key in enumerate(event.keys):
            db.execute(
                f"UPDATE {table} SET n = n - 1, s = s - ?, q = q - ? WHERE entity = ? AND key = ? AND {column} = ?",
                (event.amount, event.amount * event.amount, entity, key, place),
            )


def count_report(db: sqlite3.Connection, event: Event, is_fraud: bool) -> None:
    """Count a decided event as a fraud or as none, now and after the buckets are set anew, if it is counted itself."""
    if is_counted(db, event) and (change := mark(db, event, is_fraud)):
        note(db, event, change)


def is_counted(db: sqlite3.Connection, event: Event) -> bool:
    """Whether a decided event is among those counted, as far as the store knows."""
    counted = (
        "SELECT NOT EXISTS (SELECT 1 FROM displaced WHERE transaction_id = ?1) AND ("
        " ?2 >= (SELECT value FROM facts WHERE name = 'horizon')"
        " OR (SELECT number FROM decisions WHERE transaction_id = ?1)"
        "  <= (SELECT value FROM facts WHERE name = 'read')"
        " OR EXISTS (SELECT 1 FROM labels WHERE transaction_id = ?1 AND content = ?3))"
    )
    (found,) = db.execute(counted, (event.transaction_id, event.hour, content_of(event))).fetchone()
    return bool(found)


def mark(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Count an event as a fraud or as none, if it is not so already; returns by how much that changed its buckets."""
    change = relabel(db, event, is_fraud)
    if change:
        for entity, key in enumerate(event.keys):
            db.execute(
                "UPDATE buckets SET f = f + ?, g = g + ? WHERE entity = ? AND key = ? AND hour = ?",
                (change, change * event.amount, entity, key, event.hour),
            )
    return change


def relabel(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Note whether an event counts as a fraud; returns the change."""
    at = (event.transaction_id, content_of(event))
    before = db.execute("SELECT fraud FROM labels WHERE transaction_id = ? AND content = ?", at).fetchone()
    change = int(is_fraud) - (before[0] if before else 0)
    if change:
        db.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", (*at, event.time_us, is_fraud))
    return change


def note(db: sqlite3.Connection, event: Event, change: int) -> None:
    """Remember what a report changes, for the buckets that a refresh is about to set."""
    for entity, key in enumerate(event.keys):
        db.execute(
            "INSERT INTO reported VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET f = f + excluded.f, g = g + excluded.g",
            (entity, key, event.hour, change, change * event.amount),
        )


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables of an earlier version to what SCHEMA says."""
    if not any(name == "content" for _, name, *_ in db.execute("PRAGMA table_info(tail)")):
        db.execute("ALTER TABLE tail ADD COLUMN content TEXT")
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'frauds'").fetchone():
        for (key,) in db.execute("SELECT transaction_id FROM frauds").fetchall():
            if decision := known_decision(db, key):
                relabel(db, decision.event, True)
        db.execute("DROP TABLE frauds")


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row of id, time, amount and keys."""
    transaction_id, time_us, amount, keys = row
    return Event(transaction_id, time_us, amount, tuple(json.loads(keys)))


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
        event_of((transaction_id, time_us, amount, keys)),
        decision,
        score,
        threshold,
        version,
        features,
        datetime.fromtimestamp(decided_at, UTC),
        None if is_fraud is None else bool(is_fraud),
        reasons,
    )
