"""A copy of a SQLite store to try transactions on. See `processing.store.interface.Replay`."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from processing.contract import Contract
from processing.errors import FraudlineError
from processing.features.windows import Windows
from processing.store.decisions import Event
from processing.store.interface import Replay
from processing.store.sqlite.connections import Connections
from processing.store.sqlite.counting import count_event, is_uncounted
from processing.store.sqlite.ledger import SqliteLedger
from processing.store.sqlite.rows import content_of, known_decision
from processing.store.sqlite.schema import fact
from processing.store.sqlite.store import SqliteStore

SEEN = "CREATE TABLE seen (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID"
UNSEEN = """SELECT EXISTS (SELECT 1 FROM json_each(?) AS given
    WHERE NOT EXISTS (SELECT 1 FROM seen WHERE seen.transaction_id = given.value))"""


class SqliteReplay(SqliteStore, Replay):
    """A copy, in `folder`, of the store at `store`; an empty one if there is none yet.

    It needs bounded memory; on disk it has a row for every event.
    """

    def __init__(self, store: Path, folder: Path, contract: Contract) -> None:
        path = folder / "replay.sqlite"
        if store.exists():
            _copy(store, path)
        super().__init__(path, contract, timeout=60.0)
        with self.connections.writing() as db:
            db.execute(SEEN)
            self.horizon = fact(db, "horizon")

    def _connections(self, path: Path, timeout: float) -> Connections:
        return Connections(path, timeout, "PRAGMA synchronous = OFF")  # the copy is not needed after a crash

    def count(self, events: Sequence[Event]) -> None:
        with self.connections.writing() as db:
            for event in events:
                known = known_decision(db, event.transaction_id)
                content = content_of(known.event if known else event)
                new = db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (event.transaction_id, content)).rowcount
                if new and not known and is_uncounted(db, event):
                    count_event(db, self.entity_keys, event)

    def states(self, events: Sequence[Event], windows: Sequence[Windows] | None = None) -> list[list[int] | None]:
        ids = json.dumps([event.transaction_id for event in events])
        with self.connections.reading() as db:
            (unseen,) = db.execute(UNSEEN, [ids]).fetchone()
        if unseen:
            self.count(events)
        with self.connections.snapshot() as db:
            return [self._state_of(db, event, windows or self.windows) for event in events]

    def _state_of(self, db: sqlite3.Connection, event: Event, windows: Sequence[Windows]) -> list[int] | None:
        (content,) = db.execute("SELECT content FROM seen WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        return SqliteLedger(windows, self.entity_keys, db).state(event) if content == content_of(event) else None


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
