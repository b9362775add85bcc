"""The online store of a laptop: SQLite in WAL mode, shared by any number of processes on one machine."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from processing.contract import Contract
from processing.durations import HOUR_US
from processing.errors import BadInput, NotFound
from processing.features.state_plan import StatePlan
from processing.store.binding import FormerDigests, is_bound_to
from processing.store.decisions import Decision, Event
from processing.store.interface import Ledger, OnlineStore, StoreState
from processing.store.lookup import DecisionPage, Search, page_of
from processing.store.profiles.plan import ProfilePlan
from processing.store.refresh_data import (
    NOT_COMPARED,
    Comparison,
    RecordedEvent,
    RecordedEvents,
    Report,
    Reports,
    SettledProfile,
)
from processing.store.sqlite.connections import Connections
from processing.store.sqlite.held_profiles import HeldProfiles
from processing.store.sqlite.indexes import create_missing_indexes
from processing.store.sqlite.labels import count_report
from processing.store.sqlite.ledger import SqliteLedger
from processing.store.sqlite.lookup import walk
from processing.store.sqlite.migration import migrate
from processing.store.sqlite.refresh import Refresh
from processing.store.sqlite.rows import DECISION, EVENT, decision_of, event_of, numbered_event
from processing.store.sqlite.schema import (
    NEEDED_COLUMN,
    create_tables,
    fact,
    has_column,
    has_table,
    is_finished,
    note_labelled,
)

READ_AT_ONCE = 5_000


class SqliteStore(OnlineStore):
    """See OnlineStore. Safe for threads too; commits survive the end of the process (WAL, NORMAL)."""

    near = True

    def __init__(
        self,
        path: Path,
        contract: Contract,
        *,
        timeout: float = 2.0,
        former: FormerDigests = tuple,
        others: Sequence[Contract] = (),
    ) -> None:
        self.connections, self.plan = self._connections(path, timeout), ProfilePlan(contract, others)
        self._create(contract)
        self.connections.pin()
        with self.connections.reading() as db:
            fingerprint = db.execute("SELECT value FROM facts WHERE name = 'fingerprint'").fetchone()
        if fingerprint != (contract.fingerprint,):
            self._bind(contract, former)
        create_missing_indexes(self.connections, len(contract.key_columns))

    @property
    def path(self) -> Path:
        """Its file."""
        return self.connections.path

    def _connections(self, path: Path, timeout: float) -> Connections:
        return Connections(path, timeout)

    def _create(self, contract: Contract) -> None:
        with self.connections.reading() as db:
            if has_table(db, "facts"):
                self._check_columns(db)
                if has_table(db, "profiles"):
                    return  # opening an existing store must not wait for a writer
            self.connections.switch_to_wal(db)
        with self.connections.writing() as db:
            migrate(db)
            create_tables(db, contract)

    def _check_columns(self, db: sqlite3.Connection) -> None:
        if not has_column(db, "decisions", NEEDED_COLUMN):
            raise BadInput(
                f"the online store {self.path} was written by a version that is too old; move it away, and "
                "`fraudline run` creates a new one from the home's tables (decisions and reports stay in the old file)"
            )

    def _bind(self, contract: Contract, former: FormerDigests) -> None:
        """Bind a store that is empty, or that has only a digest, to the contract. BadInput for any other store."""
        with self.connections.writing() as db:
            facts = dict(db.execute("SELECT name, value FROM facts").fetchall())
            empty = not fact(db, "refresh") and not db.execute("SELECT 1 FROM decisions LIMIT 1").fetchone()
            if not (empty or is_bound_to(contract, facts.get("contract", ""), facts.get("fingerprint"), former)):
                raise BadInput(
                    f"the online store {self.path} was made for another contract than {contract.name!r} as it reads "
                    "now; use the contract of this home, or another home"
                )
            now = {"contract": contract.digest, "fingerprint": contract.fingerprint}
            db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", now.items())

    @contextmanager
    def together(self, *, wait: bool = True) -> Iterator[Ledger]:
        with self._ledger(wait) as ledger:
            yield ledger

    @contextmanager
    def _ledger(self, wait: bool) -> Iterator[SqliteLedger]:
        with self.connections.writing(wait) as db:
            ledger = SqliteLedger(self.plan, db)
            yield ledger
            ledger.write()

    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        with self.connections.snapshot() as db:
            return SqliteLedger(self.plan, db).recall(event, plan)

    def record(self, decision: Decision) -> Decision:
        with self._ledger(wait=True) as ledger:
            return ledger.record(decision)

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        with self.connections.writing() as db:
            decided = numbered_event(db, transaction_id)
            if decided is None:
                raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
            db.execute("INSERT INTO reports VALUES (NULL, ?, ?)", (transaction_id, is_fraud))
            db.execute("UPDATE decisions SET is_fraud = ? WHERE transaction_id = ?", (is_fraud, transaction_id))
            profiles = HeldProfiles(db, self.plan)
            count_report(profiles, decided, is_fraud)
            profiles.write()
            note_labelled(db, decided.event.time_us)

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        latest = f"SELECT {DECISION} FROM decisions WHERE decided_at >= ? ORDER BY number DESC LIMIT ?"
        with self.connections.reading() as db:
            rows = db.execute(latest, [since.timestamp() if since else 0.0, limit]).fetchall()
        return [decision_of(row) for row in rows]

    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> DecisionPage:
        with self.connections.reading() as db, closing(walk(db, search, after, newer=newer)) as rows:
            return page_of(rows, search, limit, newer=newer)

    def reports(self) -> Reports:
        with self.connections.reading() as db:
            rows = db.execute(
                f"SELECT reports.number, reports.is_fraud, {EVENT}"
                " FROM reports JOIN decisions USING (transaction_id) ORDER BY reports.number"
            ).fetchall()
        newest = {row[2]: Report(event_of(row[2:]), bool(row[1])) for row in rows}
        return Reports(newest, rows[-1][0] if rows else 0)

    def recorded_events(self, since_us: int) -> RecordedEvents:
        with self.connections.reading() as db:
            pending = fact(db, "pending")
            (last,) = db.execute("SELECT ifnull(max(number), 0) FROM decisions").fetchone()
        return RecordedEvents(self._recorded_batches(pending, last, since_us), last)

    def _recorded_batches(self, first: int, last: int, since_us: int) -> Iterator[list[RecordedEvent]]:
        page = f"SELECT number, {EVENT} FROM decisions WHERE number >= ? AND number < ?"
        for start in range(first, last + 1, READ_AT_ONCE):
            with self.connections.reading() as db:
                rows = db.execute(page, (start, min(start + READ_AT_ONCE, last + 1))).fetchall()
            yield [RecordedEvent(row[0], event_of(row[1:])) for row in rows if row[2] >= since_us]

    def refresh(
        self,
        horizon: int,
        profiles: Iterable[Sequence[SettledProfile]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
        *,
        whole: bool = True,
        basis: str = "",
    ) -> None:
        refresh = Refresh(self.connections.writing, self.plan, horizon, mark, comparison, whole=whole)
        refresh.run(profiles, tail, frauds, labelled_us, basis)

    def state(self) -> StoreState:
        with self.connections.reading() as db:
            facts = dict(db.execute("SELECT name, value FROM facts"))
        since = None if is_finished(facts) else facts["began"]
        return StoreState(facts["refresh"] > 0, facts["horizon"] * HOUR_US, facts["labelled"], since, facts["basis"])

    def tidy(self) -> None:
        """Copy commits from the write-ahead log into the database, so that no commit has to."""
        with self.connections.reading() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        self.connections.close()
