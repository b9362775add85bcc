"""A refresh of the SQLite store: hours before the horizon are set from the data, reports since then on top."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from processing.features.windows import HOUR_US
from processing.store.interface import Bucket, Comparison, Event
from processing.store.sqlite.ledger import (
    content_of,
    count_event,
    fact,
    is_counted,
    known_decision,
    mark,
    note,
    note_labelled,
    relabel,
    set_fact,
    uncount_event,
)

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

CHUNK = 5_000  # buckets set in one transaction: the API waits some milliseconds at most
EVENTS = 500  # of the tail


def refresh(
    transaction: Transaction,
    horizon: int,
    buckets: Iterable[Sequence[Bucket]],
    tail: Sequence[Event],
    reports_read: int,
    frauds: Collection[Event],
    comparison: Comparison,
    labelled_us: int,
) -> None:
    """See `OnlineStore.refresh`. Each `transaction` is one that writes; others may come in between."""
    known = set(frauds)
    with transaction() as db:  # first the horizon: from here on the API leaves the hours before it alone
        previous, pending = fact(db, "horizon"), fact(db, "pending")
        _displace(db, horizon, comparison.displaced)
        if horizon < previous:
            _count_anew(db, horizon, pending, tail)
        db.execute("INSERT OR IGNORE INTO facts SELECT 'done', value FROM facts WHERE name = 'refresh'")
        number = fact(db, "refresh") + 1
        facts = {"horizon": horizon, "refresh": number, "read": comparison.read, "pending": comparison.pending}
        for name, value in (facts | {"began": time.time_ns() // 1000}).items():
            set_fact(db, name, value)
        _relabel(db, horizon, reports_read, known)
    for start in range(0, len(tail), EVENTS):
        with transaction() as db:
            _count_tail(db, tail[start : start + EVENTS], horizon, reports_read, known)
    reported = "FROM reported WHERE entity = ?1 AND key = ?2 AND hour = ?3"
    for batch in buckets:
        for start in range(0, len(batch), CHUNK):
            rows = [(b.entity, b.key, b.hour, b.n, b.s, b.q, b.f, b.g) for b in batch[start : start + CHUNK]]
            with transaction() as db:
                db.executemany(
                    "INSERT INTO buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
                    f" ?7 + ifnull((SELECT f {reported}), 0), ?8 + ifnull((SELECT g {reported}), 0), {int(number)})"
                    " ON CONFLICT DO UPDATE SET n = excluded.n, s = excluded.s, q = excluded.q, f = excluded.f,"
                    " g = excluded.g, refresh = excluded.refresh",
                    rows,
                )
    with transaction() as db:
        db.execute("DELETE FROM buckets WHERE hour < ? AND refresh <> ?", (horizon, number))
        db.execute("DELETE FROM ticks WHERE time_us < ?", [horizon * HOUR_US])
        ids = json.dumps([event.transaction_id for event in tail])
        db.execute("DELETE FROM tail WHERE transaction_id NOT IN (SELECT value FROM json_each(?))", [ids])
        note_labelled(db, labelled_us)
        set_fact(db, "done", number)


def _displace(db: sqlite3.Connection, horizon: int, ids: Iterable[str]) -> None:
    """Let decisions count no more, as the data has other transactions under their ids."""
    for key in ids:
        decision = known_decision(db, key)
        if decision and _newly_displaced(db, key) and decision.event.hour >= horizon:
            uncount_event(db, decision.event)


def _count_anew(db: sqlite3.Connection, horizon: int, pending: int, tail: Sequence[Event]) -> None:
    """Count the hours from an earlier horizon on: what the data has of them, and the decisions that it lacks."""
    for table, column in (("buckets", "hour"), ("ticks", "time_us"), ("labels", "time_us")):
        db.execute(f"DELETE FROM {table} WHERE {column} >= ?", [horizon * (1 if column == "hour" else HOUR_US)])
    db.execute("DELETE FROM tail")
    for event in tail:
        db.execute("INSERT INTO tail VALUES (?, ?)", (event.transaction_id, content_of(event)))
        count_event(db, event)
    live = (
        "SELECT transaction_id FROM decisions WHERE number >= ? AND time_us >= ?"
        " AND transaction_id NOT IN (SELECT transaction_id FROM displaced)"
        " AND transaction_id NOT IN (SELECT transaction_id FROM tail)"
    )
    for (key,) in db.execute(live, (pending, horizon * HOUR_US)).fetchall():
        decision = known_decision(db, key)
        assert decision is not None
        count_event(db, decision.event)
        mark(db, decision.event, bool(decision.is_fraud))


def _newer(db: sqlite3.Connection, reports_read: int) -> dict[Event, bool]:
    """The labels reported since the data was read, of the decided events that are counted."""
    told = "SELECT transaction_id, is_fraud FROM reports WHERE number > ? ORDER BY number"
    newer: dict[Event, bool] = {}
    for key, label in dict(db.execute(told, [reports_read])).items():
        decision = known_decision(db, key)
        assert decision is not None  # what is not decided cannot be reported
        if is_counted(db, decision.event):
            newer[decision.event] = bool(label)
    return newer


def _relabel(db: sqlite3.Connection, horizon: int, reports_read: int, known: set[Event]) -> None:
    """From here on the data's labels count, and on top of them what the reports newer than those change."""
    db.execute("DELETE FROM labels WHERE time_us < ?", [horizon * HOUR_US])
    db.execute("DELETE FROM reported")
    for event in known:
        if event.hour < horizon:
            relabel(db, event, True)
    for event, label in _newer(db, reports_read).items():
        if event.hour < horizon and (change := relabel(db, event, label)):
            note(db, event, change)


def _count_tail(
    db: sqlite3.Connection, events: Sequence[Event], horizon: int, reports_read: int, known: set[Event]
) -> None:
    """Count the data's events from the horizon on that were not; their buckets are not set anew, nor their labels."""
    newer = _newer(db, reports_read)
    for event in events:
        key = event.transaction_id
        if not db.execute("SELECT 1 FROM tail WHERE transaction_id = ?", [key]).fetchone():
            decision = known_decision(db, key)
            if decision and decision.event != event and _newly_displaced(db, key) and decision.event.hour >= horizon:
                uncount_event(db, decision.event)
            if not decision or decision.event != event:
                count_event(db, event)
        db.execute("INSERT OR REPLACE INTO tail VALUES (?, ?)", (key, content_of(event)))
        mark(db, event, newer.get(event, event in known))


def _newly_displaced(db: sqlite3.Connection, key: str) -> bool:
    return bool(db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [key]).rowcount)
