"""A refresh of the SQLite store: hours before the horizon are set from the data, reports since then on top."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from processing.errors import BadInput
from processing.online import Bucket, Event
from processing.sqlite_ledger import count_event, known_decision, mark, note
from processing.windows import HOUR_US

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

CHUNK = 5_000  # buckets set in one transaction: the API waits some milliseconds at most


def refresh(
    transaction: Transaction,
    horizon: int,
    buckets: Iterable[Sequence[Bucket]],
    tail: Sequence[Event],
    reports_read: int,
    frauds: Collection[str],
) -> None:
    """See `OnlineStore.refresh`. Each `transaction` is one that writes; others may come in between."""
    with transaction() as db:  # first the horizon: from here on the API leaves the hours before it alone
        (previous,) = db.execute("SELECT value FROM facts WHERE name = 'horizon'").fetchone()
        if horizon < previous:
            raise BadInput(f"the online store already holds hours up to {previous}, the data ends at {horizon}")
        db.execute("UPDATE facts SET value = ? WHERE name = 'horizon'", [horizon])
        db.execute("UPDATE facts SET value = value + 1 WHERE name = 'refresh'")
        (number,) = db.execute("SELECT value FROM facts WHERE name = 'refresh'").fetchone()
        for event in tail:
            known = db.execute("SELECT 1 FROM decisions WHERE transaction_id = ?", [event.transaction_id]).fetchone()
            new = db.execute("INSERT OR IGNORE INTO tail VALUES (?)", [event.transaction_id]).rowcount
            if new and not known:
                count_event(db, event)
        _relabel(db, horizon, tail, reports_read, frauds)
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
        db.execute("DELETE FROM tail WHERE transaction_id NOT IN (SELECT value FROM json_each(?))", [_ids(tail)])


def _relabel(
    db: sqlite3.Connection, horizon: int, tail: Sequence[Event], reports_read: int, frauds: Collection[str]
) -> None:
    """From here on the data's labels count, and on top of them what the reports newer than those change."""
    known: set[str] = set(frauds)
    newer: dict[str, bool] = {}
    for number, key, label in db.execute("SELECT number, transaction_id, is_fraud FROM reports ORDER BY number"):
        if number > reports_read:
            newer[key] = bool(label)
        else:  # the run has read it, and so its data says the same
            (known.add if label else known.discard)(key)
    counted = known.difference(newer) | {key for key, label in newer.items() if label}
    for event in tail:  # their buckets are not set anew
        mark(db, event, event.transaction_id in counted)
    since = "SELECT transaction_id FROM decisions WHERE is_fraud AND time_us >= ?"
    db.execute(f"DELETE FROM frauds WHERE transaction_id NOT IN ({since})", [horizon * HOUR_US])
    db.executemany("INSERT OR IGNORE INTO frauds VALUES (?)", [(key,) for key in counted])
    db.execute("DELETE FROM reported")
    for key in counted ^ known:
        decision = known_decision(db, key)
        assert decision is not None  # what is not decided cannot be reported
        note(db, decision.event, 1 if key in counted else -1)


def _ids(events: Sequence[Event]) -> str:
    return json.dumps([event.transaction_id for event in events])
