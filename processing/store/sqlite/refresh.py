"""A refresh of the SQLite store: set the hours before the horizon from the tables, then apply later reports."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from processing.features.entity_keys import EntityKeys
from processing.features.windows import HOUR_US
from processing.store.decisions import Event
from processing.store.refresh_data import Bucket, Comparison
from processing.store.sqlite.counting import count_event, uncount_event
from processing.store.sqlite.labels import is_counted, mark, note, relabel
from processing.store.sqlite.rows import content_of, known_decision
from processing.store.sqlite.schema import fact, note_labelled, set_fact

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

BUCKETS_AT_ONCE = 5_000  # in one transaction: the API waits some milliseconds at most
EVENTS_AT_ONCE = 500  # of the tail


def refresh(
    transaction: Transaction,
    entity_keys: EntityKeys,
    horizon: int,
    buckets: Iterable[Sequence[Bucket]],
    tail: Sequence[Event],
    reports_read: int,
    frauds: Collection[Event],
    comparison: Comparison,
    labelled_us: int,
) -> None:
    """See `OnlineStore.refresh`. Each `transaction` writes; other writers may come in between."""
    known = set(frauds)
    with transaction() as db:
        number = _begin(db, entity_keys, horizon, tail, reports_read, known, comparison)
    for start in range(0, len(tail), EVENTS_AT_ONCE):
        with transaction() as db:
            _count_tail(db, entity_keys, tail[start : start + EVENTS_AT_ONCE], horizon, reports_read, known)
    for batch in buckets:
        for start in range(0, len(batch), BUCKETS_AT_ONCE):
            with transaction() as db:
                _set_buckets(db, batch[start : start + BUCKETS_AT_ONCE], number)
    with transaction() as db:
        db.execute("DELETE FROM buckets WHERE hour < ? AND refresh <> ?", (horizon, number))
        db.execute("DELETE FROM ticks WHERE time_us < ?", [horizon * HOUR_US])
        ids = json.dumps([event.transaction_id for event in tail])
        db.execute("DELETE FROM tail WHERE transaction_id NOT IN (SELECT value FROM json_each(?))", [ids])
        note_labelled(db, labelled_us)
        set_fact(db, "done", number)


def _begin(
    db: sqlite3.Connection,
    entity_keys: EntityKeys,
    horizon: int,
    tail: Sequence[Event],
    reports_read: int,
    known: set[Event],
    comparison: Comparison,
) -> int:
    """Move the horizon, so that the API no longer changes the hours before it; returns the number of the refresh."""
    previous, pending = fact(db, "horizon"), fact(db, "pending")
    _displace(db, entity_keys, horizon, comparison.displaced)
    if horizon < previous:
        _count_anew(db, entity_keys, horizon, pending, tail)
    db.execute("INSERT OR IGNORE INTO facts SELECT 'done', value FROM facts WHERE name = 'refresh'")
    number = fact(db, "refresh") + 1
    facts = {"horizon": horizon, "refresh": number, "read": comparison.read_up_to, "pending": comparison.pending}
    for name, value in (facts | {"began": time.time_ns() // 1000}).items():
        set_fact(db, name, value)
    _relabel(db, entity_keys, horizon, reports_read, known)
    return number


def _set_buckets(db: sqlite3.Connection, buckets: Sequence[Bucket], number: int) -> None:
    """Set buckets for the refresh of that number, with the reports that came since the tables were read."""
    reported = "FROM reported WHERE entity = ?1 AND key = ?2 AND hour = ?3"
    db.executemany(
        "INSERT INTO buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
        f" ?7 + ifnull((SELECT f {reported}), 0), ?8 + ifnull((SELECT g {reported}), 0), {int(number)})"
        " ON CONFLICT DO UPDATE SET n = excluded.n, s = excluded.s, q = excluded.q, f = excluded.f,"
        " g = excluded.g, refresh = excluded.refresh",
        [tuple(bucket) for bucket in buckets],
    )


def _displace(db: sqlite3.Connection, entity_keys: EntityKeys, horizon: int, ids: Iterable[str]) -> None:
    """Stop counting decisions, as the tables have other transactions under their ids."""
    for key in ids:
        decision = known_decision(db, key)
        if decision and _newly_displaced(db, key) and decision.event.hour >= horizon:
            uncount_event(db, entity_keys, decision.event)


def _count_anew(
    db: sqlite3.Connection, entity_keys: EntityKeys, horizon: int, pending: int, tail: Sequence[Event]
) -> None:
    """Count the hours from an earlier horizon on: the events of the tables, and the decisions that the tables lack."""
    for table, column in (("buckets", "hour"), ("ticks", "time_us"), ("labels", "time_us")):
        db.execute(f"DELETE FROM {table} WHERE {column} >= ?", [horizon * (1 if column == "hour" else HOUR_US)])
    db.execute("DELETE FROM tail")
    for event in tail:
        db.execute("INSERT INTO tail VALUES (?, ?)", (event.transaction_id, content_of(event)))
        count_event(db, entity_keys, event)
    live = (
        "SELECT transaction_id FROM decisions WHERE number >= ? AND time_us >= ?"
        " AND transaction_id NOT IN (SELECT transaction_id FROM displaced)"
        " AND transaction_id NOT IN (SELECT transaction_id FROM tail)"
    )
    for (key,) in db.execute(live, (pending, horizon * HOUR_US)).fetchall():
        decision = known_decision(db, key)
        assert decision is not None
        count_event(db, entity_keys, decision.event)
        mark(db, entity_keys, decision.event, bool(decision.is_fraud))


def _newer_labels(db: sqlite3.Connection, reports_read: int) -> dict[Event, bool]:
    """The labels of decided, counted events that were reported since the tables were read."""
    newer = "SELECT transaction_id, is_fraud FROM reports WHERE number > ? ORDER BY number"
    labels: dict[Event, bool] = {}
    for key, label in dict(db.execute(newer, [reports_read])).items():
        decision = known_decision(db, key)
        assert decision is not None  # a report needs a decision
        if is_counted(db, decision.event):
            labels[decision.event] = bool(label)
    return labels


def _relabel(
    db: sqlite3.Connection, entity_keys: EntityKeys, horizon: int, reports_read: int, known: set[Event]
) -> None:
    """From here on count the labels of the tables, and on top of them what newer reports change."""
    db.execute("DELETE FROM labels WHERE time_us < ?", [horizon * HOUR_US])
    db.execute("DELETE FROM reported")
    for event in known:
        if event.hour < horizon:
            relabel(db, event, True)
    for event, label in _newer_labels(db, reports_read).items():
        if event.hour < horizon and (change := relabel(db, event, label)):
            note(db, entity_keys, event, change)


def _count_tail(
    db: sqlite3.Connection,
    entity_keys: EntityKeys,
    events: Sequence[Event],
    horizon: int,
    reports_read: int,
    known: set[Event],
) -> None:
    """Count events from the horizon on, unless they are counted already, and label them. Their buckets are not set."""
    newer = _newer_labels(db, reports_read)
    for event in events:
        key = event.transaction_id
        if not db.execute("SELECT 1 FROM tail WHERE transaction_id = ?", [key]).fetchone():
            decision = known_decision(db, key)
            if decision and decision.event != event and _newly_displaced(db, key) and decision.event.hour >= horizon:
                uncount_event(db, entity_keys, decision.event)
            if not decision or decision.event != event:
                count_event(db, entity_keys, event)
        db.execute("INSERT OR REPLACE INTO tail VALUES (?, ?)", (key, content_of(event)))
        mark(db, entity_keys, event, newer.get(event, event in known))


def _newly_displaced(db: sqlite3.Connection, key: str) -> bool:
    return bool(db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [key]).rowcount)
