"""The online store of a laptop: SQLite in WAL mode, shared by any number of processes on one machine."""

import functools
import json
import operator
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features import FeatureSet
from processing.online import Bucket, Decision, Event, Ledger, OnlineStore, Reports, StoreBusy, StoreUnavailable
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
LOG_PAGES = 4_000  # of the write-ahead log, at which a commit copies them itself if nobody else did
CHUNK = 5_000  # buckets set in one transaction: the API waits some milliseconds at most


class SqliteStore(OnlineStore):
    """See OnlineStore. Safe for threads too; commits survive the end of the process (WAL, NORMAL)."""

    near = True

    def __init__(self, path: Path, contract: Contract, *, timeout: float = 2.0) -> None:
        self.path, self.timeout = path, timeout
        self.windows = list(FeatureSet(contract).windows.values())
        # Not one per thread: a server's pool ends idle threads and starts others, each of which would open its own.
        self._one_writer = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._prompt: deque[sqlite3.Connection] = deque()  # those that do not wait for other writers
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
                self._check_columns(db)
                _add_reasons(db)
                return  # opening a store that is there must not wait for whoever is writing
            self._write_ahead(db)
        with self._writing() as db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(
                "INSERT OR IGNORE INTO facts VALUES ('contract', ?), ('horizon', 0), ('refresh', 0)",
                [contract.digest],
            )

    def _check_columns(self, db: sqlite3.Connection) -> None:
        """Raise BadInput for a store that was made before the amounts of frauds were kept."""
        if not any(name == "g" for _, name, *_ in db.execute("PRAGMA table_info(buckets)")):
            raise BadInput(
                f"the online store {self.path} is of an older kind; move it away, and `fraudline run` makes it anew "
                "from the home's tables (decisions and reports stay in the old file)"
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
    def _answering(self, wait: bool = True) -> Iterator[sqlite3.Connection]:
        idle = self._idle if wait else self._prompt
        try:
            db = idle.pop() if idle else self._connect(self.timeout if wait else 0.0)
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.close()
                else:
                    idle.append(db)
        except sqlite3.DatabaseError as error:  # busy, full, unreadable, not a database
            kind = StoreUnavailable if wait or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY else StoreBusy
            raise kind(f"the online store {self.path} does not answer: {error}") from error

    def _connect(self, timeout: float) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=timeout, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        return db

    @contextmanager
    def _writing(self, wait: bool = True) -> Iterator[sqlite3.Connection]:
        # SQLite lets a waiting writer sleep for milliseconds; the writers of this process queue without.
        if not self._one_writer.acquire(timeout=self.timeout if wait else 0.0):
            kind = StoreUnavailable if wait else StoreBusy
            raise kind(f"the online store {self.path} does not answer: other writers keep it busy")
        try:
            with self._answering(wait) as db:
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

    @contextmanager
    def together(self, *, wait: bool = True) -> Iterator[Ledger]:
        with self._writing(wait) as db:
            yield Open(self.windows, db)

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        with self._answering() as db:
            db.execute("BEGIN")  # one snapshot for all that is read
            try:
                return Open(self.windows, db).recall(event)
            finally:
                db.execute("COMMIT")

    def record(self, decision: Decision) -> Decision:
        with self._writing() as db:
            return Open(self.windows, db).record(decision)

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        with self._writing() as db:
            known = known_decision(db, transaction_id)
            if known is None:
                raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
            db.execute("INSERT INTO reports VALUES (NULL, ?, ?)", (transaction_id, is_fraud))
            db.execute("UPDATE decisions SET is_fraud = ? WHERE transaction_id = ?", (is_fraud, transaction_id))
            if change := _mark(db, known.event, is_fraud):
                _note(db, known.event, change)

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        latest = f"SELECT {DECISION} FROM decisions WHERE decided_at >= ? ORDER BY number DESC LIMIT ?"
        with self._answering() as db:
            rows = db.execute(latest, [since.timestamp() if since else 0.0, limit]).fetchall()
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
                    count_event(db, event)
            self._relabel(db, horizon, tail, mark, frauds)
        reported = "FROM reported WHERE entity = ?1 AND key = ?2 AND hour = ?3"
        for batch in buckets:
            for start in range(0, len(batch), CHUNK):
                rows = [(b.entity, b.key, b.hour, b.n, b.s, b.q, b.f, b.g) for b in batch[start : start + CHUNK]]
                with self._writing() as db:
                    db.executemany(
                        "INSERT INTO buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6,"
                        f" ?7 + ifnull((SELECT f {reported}), 0), ?8 + ifnull((SELECT g {reported}), 0), {int(number)})"
                        " ON CONFLICT DO UPDATE SET n = excluded.n, s = excluded.s, q = excluded.q, f = excluded.f,"
                        " g = excluded.g, refresh = excluded.refresh",
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
            decision = known_decision(db, key)
            assert decision is not None  # what is not decided cannot be reported
            _note(db, decision.event, 1 if key in counted else -1)

    def tidy(self) -> None:
        """Copy what was committed from the write-ahead log into the database, so that no commit has to."""
        with self._answering() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        for idle in (self._idle, self._prompt):
            while idle:
                idle.pop().close()


class Open:
    """The store within a transaction: see `OnlineStore.together`."""

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
    return _decision(row) if row else None


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


def _add_reasons(db: sqlite3.Connection) -> None:
    """Give a store that was made before decisions had reasons its column for them."""
    if not any(name == "reasons" for _, name, *_ in db.execute("PRAGMA table_info(decisions)")):
        try:
            db.execute("ALTER TABLE decisions ADD COLUMN reasons TEXT")
        except sqlite3.OperationalError as error:
            if "duplicate column" not in str(error):  # another process was quicker
                raise


def count_event(db: sqlite3.Connection, event: Event) -> None:
    for statement in _additions(len(event.keys)):
        db.execute(statement, (event.time_us, event.hour, event.amount, event.amount * event.amount, *event.keys))


def _mark(db: sqlite3.Connection, event: Event, is_fraud: bool) -> int:
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


def _note(db: sqlite3.Connection, event: Event, change: int) -> None:
    """Remember what a report changes, for the buckets that a refresh is about to set."""
    for entity, key in enumerate(event.keys):
        db.execute(
            "INSERT INTO reported VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET f = f + excluded.f, g = g + excluded.g",
            (entity, key, event.hour, change, change * event.amount),
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
