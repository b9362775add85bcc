"""A copy of a SQLite store to try transactions on. See `processing.store.interface.Replay`."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from processing.contract import Contract
from processing.errors import FraudlineError
from processing.features.state_plan import StatePlan
from processing.store.decisions import Event
from processing.store.interface import Replay
from processing.store.sqlite.connections import Connections
from processing.store.sqlite.held_profiles import HeldProfiles
from processing.store.sqlite.ledger import SqliteLedger
from processing.store.sqlite.rows import content_of, numbered_event
from processing.store.sqlite.schema import fact
from processing.store.sqlite.store import SqliteStore

SEEN = "CREATE TABLE seen (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID"
IN_TAIL = "SELECT 1 FROM tail WHERE transaction_id = ?"
UNSEEN = """SELECT EXISTS (SELECT 1 FROM json_each(?) AS given
    WHERE NOT EXISTS (SELECT 1 FROM seen WHERE seen.transaction_id = given.value))"""


class SqliteReplay(SqliteStore, Replay):
    """A copy, in `folder`, of the store at `store`; an empty one if there is none yet.

    On disk it has a row for every event. Its profiles keep all that is counted here, because a file may begin long
    before it ends.
    """

    def __init__(self, store: Path, folder: Path, contract: Contract, others: Sequence[Contract] = ()) -> None:
        path = folder / "replay.sqlite"
        if store.exists():
            _copy(store, path)
        super().__init__(path, contract, timeout=60.0, others=others)
        with self.connections.writing() as db:
            db.execute(SEEN)
            self.horizon = fact(db, "horizon")

    def _connections(self, path: Path, timeout: float) -> Connections:
        return Connections(path, timeout, "PRAGMA synchronous = OFF")  # the copy is not needed after a crash

    def count(self, events: Sequence[Event]) -> None:
        with self.connections.writing() as db:
            profiles = HeldProfiles(db, self.plan)
            for event in events:
                key = event.transaction_id
                known = numbered_event(db, key)
                content = content_of(known.event if known else event)
                new = db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, content)).rowcount
                if new and not known and not db.execute(IN_TAIL, [key]).fetchone():
                    profiles.count(self.plan.counted(event))
            profiles.write()

    def states(self, events: Sequence[Event], plan: StatePlan | None = None) -> list[list[int] | None]:
        ids = json.dumps([event.transaction_id for event in events])
        with self.connections.reading() as db:
            (unseen,) = db.execute(UNSEEN, [ids]).fetchone()
        if unseen:
            self.count(events)
        with self.connections.snapshot() as db:
            ledger = SqliteLedger(self.plan, db)
            return [self._state_of(ledger, event, plan) for event in events]

    def _state_of(self, ledger: SqliteLedger, event: Event, plan: StatePlan | None) -> list[int] | None:
        first = "SELECT content FROM seen WHERE transaction_id = ?"
        (content,) = ledger.db.execute(first, [event.transaction_id]).fetchone()
        return ledger.state(event, plan) if content == content_of(event) else None


def _copy(store: Path, path: Path) -> None:
    try:
        source, target = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True), sqlite3.connect(path)
        try:
            source.backup(target)  # all pages in one step: a snapshot that keeps no writer waiting
        finally:
            source.close()
            target.close()
    except sqlite3.DatabaseError as error:
        raise FraudlineError(
            f"cannot copy the online store {store} to {path.parent}: {error}; check the free space on the disk, or set "
            "TMPDIR to another folder"
        ) from error
