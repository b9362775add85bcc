"""An online store to try things on: a copy that counts further transactions, while the home's own stays as it is."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from processing.contract import Contract
from processing.errors import FraudlineError
from processing.store.interface import Event
from processing.store.sqlite.ledger import UNCOUNTED, Open, content_of, count_event, known_decision
from processing.store.sqlite.store import SqliteStore

SEEN = "CREATE TABLE seen (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID"
UNSEEN = """SELECT EXISTS (SELECT 1 FROM json_each(?) AS given
    WHERE NOT EXISTS (SELECT 1 FROM seen WHERE seen.transaction_id = given.value))"""


class Replay(SqliteStore):
    """A copy, in a folder of the caller's, of a home's online store (an empty one if there is none yet).

    First all events are counted, then the state of each is asked for. A state is point-in-time: it is made of what
    lies before its event, in whatever order the events came. Bounded memory; the disk holds a row for every event.
    """

    def __init__(self, store: Path, folder: Path, contract: Contract) -> None:
        path = folder / "replay.sqlite"
        if store.exists():
            _copy(store, path)
        super().__init__(path, contract, timeout=60.0)
        with self._writing() as db:
            db.execute(SEEN)
            (self.horizon,) = db.execute("SELECT value FROM facts WHERE name = 'horizon'").fetchone()

    def _connect(self, timeout: float) -> sqlite3.Connection:
        db = super()._connect(timeout)
        db.execute("PRAGMA synchronous = OFF")  # nobody needs this copy after a crash
        return db

    def count(self, events: Sequence[Event]) -> None:
        """Count events as the API would: each id once, and none that the home's data or store has counted."""
        with self._writing() as db:
            for event in events:
                known = known_decision(db, event.transaction_id)
                content = content_of(known.event if known else event)
                new = db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (event.transaction_id, content)).rowcount
                if new and not known and db.execute(UNCOUNTED, (event.hour, event.transaction_id)).fetchone()[0]:
                    count_event(db, event)

    def states(self, events: Sequence[Event]) -> list[list[int] | None]:
        """The state of each event; None where its id was used before, for another transaction.

        What was not counted is counted now: a file that breaks off may give more rows when it is read once more.
        """
        ids = json.dumps([event.transaction_id for event in events])
        with self._answering() as db:
            (unseen,) = db.execute(UNSEEN, [ids]).fetchone()
        if unseen:
            self.count(events)
        with self._answering() as db:
            db.execute("BEGIN")
            try:
                return [self._state_of(db, event) for event in events]
            finally:
                db.execute("COMMIT")

    def _state_of(self, db: sqlite3.Connection, event: Event) -> list[int] | None:
        (content,) = db.execute("SELECT content FROM seen WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        if content != content_of(event):
            return None
        store = Open(self.windows, db)
        return [number for entity, key in enumerate(event.keys) for number in store.state(entity, key, event)]


def _copy(store: Path, path: Path) -> None:
    try:
        source, target = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True), sqlite3.connect(path)
        try:
            source.backup(target)  # in one go: a snapshot, which keeps no writer waiting
        finally:
            source.close()
            target.close()
    except sqlite3.DatabaseError as error:
        raise FraudlineError(
            f"the online store {store} cannot be copied to {path.parent}: {error}; is there room on the disk? "
            "TMPDIR chooses another place"
        ) from error
