"""The online store of a laptop: SQLite in WAL mode, shared by any number of processes on one machine."""

import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features import FeatureSet
from processing.online import Bucket, Decision, Event, OnlineStore, Reports, StoreUnavailable
from processing.windows import HOUR_US, state_at

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    entity INTEGER, key TEXT, hour INTEGER, n INTEGER, s INTEGER, q INTEGER, f INTEGER, refresh INTEGER,
    PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticks (
    entity INTEGER, key TEXT, time_us INTEGER, n INTEGER, s INTEGER, q INTEGER,
    PRIMARY KEY (entity, key, time_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, transaction_id TEXT UNIQUE, time_us INTEGER, amount INTEGER, keys TEXT,
    decision TEXT, score REAL, threshold REAL, model_version TEXT, features BLOB, decided_at REAL, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS frauds (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, transaction_id TEXT, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS reported (
    entity INTEGER, key TEXT, hour INTEGER, change INTEGER, PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
"""
DECISION = (
    "transaction_id, time_us, amount, keys, decision, score, threshold, model_version, features, decided_at, is_fraud"
)
CHUNK = 5_000  # buckets set in one transaction: the API waits some milliseconds at most


class SqliteStore(OnlineStore):
    """See OnlineStore. Safe for threads too; commits survive the end of the process (WAL, NORMAL)."""

    def __init__(self, path: Path, contract: Contract, *, timeout: float = 2.0) -> None:
        self.path, self.timeout = path, timeout
        self.windows = list(FeatureSet(contract).windows.values())
        # Not one per thread: a server's pool ends idle threads and starts others, each of which would open its own.
        self._one_writer = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._create(contract)
        with self._answering() as db:
            (digest,) = db.execute("SELECT value FROM facts WHERE name = 'contract'").fetchone()
        if digest != contract.digest:
            raise BadInput(
                f"the online store {path} was made for another contract than {contract.name!r} as it reads now; "
                "use the contract of this home, or another home"
            )

    def _create(self, contract: Contract) -> None:
        with self._answering() as db:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'facts'").fetchone():
                return  # opening a store that is there must not wait for whoever is writing
            self._write_ahead(db)
        with self._writing() as db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(
                "INSERT OR IGNORE INTO facts VALUES ('contract', ?), ('horizon', 0), ('refresh', 0)",
                [contract.digest],
            )

    def _write_ahead(self, db: sqlite3.Connection) -> None:
        """Go over to WAL. SQLite does not wait here while another process does the same, so we do."""
        ends = time.monotonic() + self.timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() >= ends:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _answering(self) -> Iterator[sqlite3.Connection]:
        try:
            db = self._connection()
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.close()
                else:
                    self._idle.append(db)
        except sqlite3.DatabaseError as error:  # busy, full, unreadable, not a database
            raise StoreUnavailable(f"the online store {self.path} does not answer: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            db = sqlite3.connect(self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous = NORMAL")
            return db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        # SQLite lets a waiting writer sleep for milliseconds; the writers of this process queue without.
        if not self._one_writer.acquire(timeout=self.timeout):
            raise StoreUnavailable(f"the online store {self.path} does not answer: other writers keep it busy")
        try:
            with self._answering() as db:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
        finally:
            self._one_writer.release()

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        with self._answering() as db:
            db.execute("BEGIN")  # one snapshot for all that is read
            try:
                known = self._decision(db, event.transaction_id)
                state: list[int] = []
                for entity, key in enumerate(event.keys):
                    state += self._state(db, entity, key, event)
            finally:
                db.execute("COMMIT")
        return known, state

    def _state(self, db: sqlite3.Connection, entity: int, key: str, event: Event) -> list[int]:
        windows = self.windows[entity]
        rows = db.execute(
            "SELECT hour, n, s, q, f FROM buckets WHERE entity = ? AND key = ? AND hour >= ? AND hour < ?"
            " ORDER BY hour",
            (entity, key, event.hour - windows.lookback_hours, event.hour),
        ).fetchall()
        n, s, q = db.execute(
            "SELECT sum(n), sum(s), sum(q) FROM ticks WHERE entity = ? AND key = ? AND time_us >= ? AND time_us < ?",
            (entity, key, event.hour * HOUR_US, event.time_us),
        ).fetchone()
        buckets = np.array(rows, np.int64).reshape(-1, 5)
        return state_at(windows, event.hour, event.amount, buckets, (n or 0, s or 0, q or 0))

    @staticmethod
    def _decision(db: sqlite3.Connection, transaction_id: str) -> Decision | None:
        row = db.execute(f"SELECT {DECISION} FROM decisions WHERE transaction_id = ?", [transaction_id]).fetchone()
        return _decision(row) if row else None

    def record(self, decision: Decision) -> Decision:
        event = decision.event
        with self._writing() as db:
            inserted = db.execute(
                f"INSERT INTO decisions ({DECISION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
                " ON CONFLICT DO NOTHING",
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
                ),
            ).rowcount
            if not inserted:
                standing = self._decision(db, event.transaction_id)
                assert standing is not None
                return standing
            (horizon,) = db.execute("SELECT value FROM facts WHERE name = 'horizon'").fetchone()
            # What lies before the horizon is the data's to tell; what came with the data's last hour is counted.
            if (
                event.hour >= horizon
                and not db.execute("SELECT 1 FROM tail WHERE transaction_id = ?", [event.transaction_id]).fetchone()
            ):
                _count(db, event)
        return decision

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        with self._writing() as db:
            known = self._decision(db, transaction_id)
            if known is None:
                raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
            db.execute("INSERT INTO reports VALUES (NULL, ?, ?)", (transaction_id, is_fraud))
            db.execute("UPDATE decisions SET is_fraud = ? WHERE transaction_id = ?", (is_fraud, transaction_id))
            if change := _mark(db, known.event, is_fraud):
                _note(db, known.event, change)

    def decisions(self, limit: int) -> list[Decision]:
        with self._answering() as db:
            rows = db.execute(f"SELECT {DECISION} FROM decisions ORDER BY number DESC LIMIT ?", [limit]).fetchall()
        return [_decision(row) for row in rows]

    def reports(self) -> Reports:
        with self._answering() as db:
            rows = db.execute("SELECT number, transaction_id, is_fraud FROM reports ORDER BY number").fetchall()
        return Reports({key: bool(label) for _, key, label in rows}, rows[-1][0] if rows else 0)

    def refresh(
        self,
        horizon: int,
        buckets: Iterable[Sequence[Bucket]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[str] = (),
    ) -> None:
        with self._writing() as db:  # first the horizon: from here on the API leaves the hours before it alone
            (previous,) = db.execute("SELECT value FROM facts WHERE name = 'horizon'").fetchone()
            if horizon < previous:
                raise BadInput(f"the online store already holds hours up to {previous}, the data ends at {horizon}")
            db.execute("UPDATE facts SET value = ? WHERE name = 'horizon'", [horizon])
            db.execute("UPDATE facts SET value = value + 1 WHERE name = 'refresh'")
            (number,) = db.execute("SELECT value FROM facts WHERE name = 'refresh'").fetchone()
            for event in tail:
                known = db.execute(
                    "SELECT 1 FROM decisions WHERE transaction_id = ?", [event.transaction_id]
                ).fetchone()
                new = db.execute("INSERT OR IGNORE INTO tail VALUES (?)", [event.transaction_id]).rowcount
                if new and not known:
                    _count(db, event)
            self._relabel(db, horizon, tail, mark, frauds)
        for batch in buckets:
            for start in range(0, len(batch), CHUNK):
                rows = [(b.entity, b.key, b.hour, b.n, b.s, b.q, b.f) for b in batch[start : start + CHUNK]]
                with self._writing() as db:
                    db.executemany(
                        "INSERT INTO buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
                        " ?7 + ifnull((SELECT change FROM reported"
                        f" WHERE entity = ?1 AND key = ?2 AND hour = ?3), 0), {int(number)})"
                        " ON CONFLICT DO UPDATE SET n = excluded.n, s = excluded.s, q = excluded.q, f = excluded.f,"
                        " refresh = excluded.refresh",
                        rows,
                    )
        with self._writing() as db:
            db.execute("DELETE FROM buckets WHERE hour < ? AND refresh <> ?", (horizon, number))
            db.execute("DELETE FROM ticks WHERE time_us < ?", [horizon * HOUR_US])
            db.execute("DELETE FROM tail WHERE transaction_id NOT IN (SELECT value FROM json_each(?))", [_ids(tail)])

    def _relabel(
        self, db: sqlite3.Connection, horizon: int, tail: Sequence[Event], mark: int, frauds: Collection[str]
    ) -> None:
        """From here on the data's labels count, and on top of them what the reports newer than `mark` change."""
        known: set[str] = set(frauds)
        newer: dict[str, bool] = {}
        for number, key, label in db.execute("SELECT number, transaction_id, is_fraud FROM reports ORDER BY number"):
            if number > mark:
                newer[key] = bool(label)
            else:  # the run has read it, and so its data says the same
                (known.add if label else known.discard)(key)
        counted = known.difference(newer) | {key for key, label in newer.items() if label}
        for event in tail:  # their buckets are not set anew
            _mark(db, event, event.transaction_id in counted)
        since = "SELECT transaction_id FROM decisions WHERE is_fraud AND time_us >= ?"
        db.execute(f"DELETE FROM frauds WHERE transaction_id NOT IN ({since})", [horizon * HOUR_US])
        db.executemany("INSERT OR IGNORE INTO frauds VALUES (?)", [(key,) for key in counted])
        db.execute("DELETE FROM reported")
        for key in counted ^ known:
            decision = self._decision(db, key)
            assert decision is not None  # what is not decided cannot be reported
            _note(db, decision.event, 1 if key in counted else -1)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _count(db: sqlite3.Connection, event: Event) -> None:
    amount = (event.amount, event.amount * event.amount)
    for entity, key in enumerate(event.keys):
        db.execute(
            "INSERT INTO buckets VALUES (?, ?, ?, 1, ?, ?, 0, 0)"
            " ON CONFLICT DO UPDATE SET n = n + 1, s = s + excluded.s, q = q + excluded.q",
            (entity, key, event.hour, *amount),
        )
        db.execute(
            "INSERT INTO ticks VALUES (?, ?, ?, 1, ?, ?)"
            " ON CONFLICT DO UPDATE SET n = n + 1, s = s + excluded.s, q = q + excluded.q",
            (entity, key, event.time_us, *amount),
        )


def _mark(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
    """Count an event as a fraud or as none, if it is not so already; returns by how much that changed its buckets."""
    if is_fraud:
        change = db.execute("INSERT OR IGNORE INTO frauds VALUES (?)", [event.transaction_id]).rowcount
    else:
        change = -db.execute("DELETE FROM frauds WHERE transaction_id = ?", [event.transaction_id]).rowcount
    if change:
        for entity, key in enumerate(event.keys):
            db.execute(
                "UPDATE buckets SET f = f + ? WHERE entity = ? AND key = ? AND hour = ?",
                (change, entity, key, event.hour),
            )
    return change


def _note(db: sqlite3.Connection, event: Event, change: int) -> None:
    """Remember what a report changes, for the buckets that a refresh is about to set."""
    for entity, key in enumerate(event.keys):
        db.execute(
            "INSERT INTO reported VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET change = change + excluded.change",
            (entity, key, event.hour, change),
        )


def _ids(events: Sequence[Event]) -> str:
    return json.dumps([event.transaction_id for event in events])


def _decision(row: tuple[Any, ...]) -> Decision:
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
    )
