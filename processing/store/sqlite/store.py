"""The online store of a laptop: SQLite in WAL mode, shared by any number of processes on one machine."""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features.feature_set import FeatureSet
from processing.features.windows import HOUR_US
from processing.store.interface import (
    NOT_COMPARED,
    Bucket,
    Comparison,
    Decision,
    Event,
    Former,
    Ledger,
    OnlineStore,
    Recorded,
    Recordings,
    Report,
    Reports,
    StoreBusy,
    StoreState,
    StoreUnavailable,
    is_bound_to,
)
from processing.store.lookup import Page, Search, page_of
from processing.store.sqlite.ledger import (
    DECISION,
    FACTS,
    SCHEMA,
    Open,
    count_report,
    decision_of,
    event_of,
    fact,
    is_finished,
    known_decision,
    migrate,
    note_labelled,
)
from processing.store.sqlite.lookup import missing_indexes, rows
from processing.store.sqlite.refresh import refresh

READ_AT_ONCE = 5_000
COLUMNS = {"buckets": "g", "decisions": "reasons"}  # the newest of a table
INDEX_SECONDS = 600.0  # that whoever opens a store waits for the process that is making its indexes
MANY = 100_000  # decisions, whose indexes take a moment to make: some 9 seconds for a million
LOG_PAGES = 4_000  # of the write-ahead log, at which a commit copies them itself if nobody else did


class SqliteStore(OnlineStore):
    """See OnlineStore. Safe for threads too; commits survive the end of the process (WAL, NORMAL)."""

    near = True

    def __init__(self, path: Path, contract: Contract, *, timeout: float = 2.0, former: Former = tuple) -> None:
        self.path, self.timeout = path, timeout
        self.windows = list(FeatureSet(contract).windows.values())
        # Not one per thread: a server's pool ends idle threads and starts others, each of which would open its own.
        self._one_writer = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._prompt: deque[sqlite3.Connection] = deque()  # those that do not wait for other writers
        self._file: tuple[int, int] | None = None  # which file it is, once it is open
        self._create(contract)
        self._file = self._found()
        with self._answering() as db:
            kept = db.execute("SELECT value FROM facts WHERE name = 'fingerprint'").fetchone()
        if kept != (contract.fingerprint,):
            self._bind(contract, former)
        self._index(len(contract.entities))

    def _bind(self, contract: Contract, former: Former) -> None:
        """Note the contract of a store that holds nothing yet, or none but its digest. BadInput for any other store."""
        with self._writing() as db:
            kept = dict(db.execute("SELECT name, value FROM facts").fetchall())
            empty = not fact(db, "refresh") and not db.execute("SELECT 1 FROM decisions LIMIT 1").fetchone()
            if not (empty or is_bound_to(contract, kept.get("contract", ""), kept.get("fingerprint"), former)):
                raise BadInput(
                    f"the online store {self.path} was made for another contract than {contract.name!r} as it reads "
                    "now; use the contract of this home, or another home"
                )
            now = {"contract": contract.digest, "fingerprint": contract.fingerprint}
            db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", now.items())

    def _create(self, contract: Contract) -> None:
        with self._answering() as db:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'facts'").fetchone():
                self._check_columns(db)
                if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'labels'").fetchone():
                    return  # opening a store that is there must not wait for whoever is writing
            self._write_ahead(db)
        with self._writing() as db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO facts VALUES ('contract', ?)", [contract.digest])
            db.executemany("INSERT OR IGNORE INTO facts VALUES (?, 0)", [(name,) for name in FACTS])
            migrate(db)

    def _index(self, entities: int) -> None:
        """Make the indexes that a new store lacks, or one of an earlier version, each in a transaction of its own.

        Others write in between. For one index of a million decisions they wait three seconds.
        """
        with self._answering() as db:
            missing = missing_indexes(db, entities)
            (decided,) = db.execute("SELECT ifnull(max(number), 0) FROM decisions").fetchone()
        if missing and decided > MANY:
            logging.getLogger(__name__).warning(
                "the online store %s is given indexes of its %s decisions, once; other processes may wait for seconds",
                self.path,
                f"{decided:,}",
            )
        for statement in missing:
            try:
                with closing(self._connect(max(self.timeout, INDEX_SECONDS))) as patient:
                    patient.execute("BEGIN IMMEDIATE")
                    patient.execute(statement)
                    patient.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                raise StoreUnavailable(f"the online store {self.path} could not be given an index: {error}") from error

    def _check_columns(self, db: sqlite3.Connection) -> None:
        """Raise BadInput for a store whose tables are not those of this version."""
        columns = {name for table in COLUMNS for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
        if not columns.issuperset(COLUMNS.values()):
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
        if self._file is not None and self._found() != self._file:
            raise StoreUnavailable(
                f"the online store {self.path} was removed or replaced while it was open; restart what uses it, after "
                "`fraudline home repair` if it is gone"
            )
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
        mode = "rwc" if self._file is None else "rw"  # a store that is gone must not begin anew, empty
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(address, timeout=timeout, isolation_level=None, check_same_thread=False, uri=True)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        return db

    def _found(self) -> tuple[int, int] | None:
        """Which file lies at the path now."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

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
            count_report(db, known.event, is_fraud)
            note_labelled(db, known.event.time_us)

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        latest = f"SELECT {DECISION} FROM decisions WHERE decided_at >= ? ORDER BY number DESC LIMIT ?"
        with self._answering() as db:
            rows = db.execute(latest, [since.timestamp() if since else 0.0, limit]).fetchall()
        return [decision_of(row) for row in rows]

    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> Page:
        with self._answering() as db, closing(rows(db, search, after, newer=newer)) as found:
            return page_of(found, search, limit, newer=newer)

    def reports(self) -> Reports:
        with self._answering() as db:
            rows = db.execute(
                "SELECT reports.number, reports.is_fraud, transaction_id, time_us, amount, keys"
                " FROM reports JOIN decisions USING (transaction_id) ORDER BY reports.number"
            ).fetchall()
        newest = {row[2]: Report(event_of(row[2:]), bool(row[1])) for row in rows}
        return Reports(newest, rows[-1][0] if rows else 0)

    def recorded(self, since_us: int) -> Recordings:
        with self._answering() as db:
            pending = fact(db, "pending")
            (read,) = db.execute("SELECT ifnull(max(number), 0) FROM decisions").fetchone()
        return Recordings(self._recorded(pending, read, since_us), read)

    def _recorded(self, first: int, last: int, since_us: int) -> Iterator[list[Recorded]]:
        page = "SELECT number, transaction_id, time_us, amount, keys FROM decisions WHERE number >= ? AND number < ?"
        for start in range(first, last + 1, READ_AT_ONCE):
            with self._answering() as db:
                rows = db.execute(page, (start, min(start + READ_AT_ONCE, last + 1))).fetchall()
            yield [Recorded(row[0], event_of(row[1:])) for row in rows if row[2] >= since_us]

    def refresh(
        self,
        horizon: int,
        buckets: Iterable[Sequence[Bucket]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
    ) -> None:
        refresh(self._writing, horizon, buckets, tail, mark, frauds, comparison, labelled_us)

    def state(self) -> StoreState:
        with self._answering() as db:
            facts: dict[str, int] = dict(db.execute("SELECT name, value FROM facts WHERE name <> 'contract'"))
        since = None if is_finished(facts) else facts["began"]
        return StoreState(facts["refresh"] > 0, facts["horizon"] * HOUR_US, facts.get("labelled", 0), since)

    def tidy(self) -> None:
        """Copy what was committed from the write-ahead log into the database, so that no commit has to."""
        with self._answering() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        for idle in (self._idle, self._prompt):
            while idle:
                idle.pop().close()
