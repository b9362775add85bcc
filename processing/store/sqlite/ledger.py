"""Recall and record decisions within one transaction of the SQLite store."""

import sqlite3
import time

from processing.features.state_plan import StatePlan
from processing.store.decisions import Decision, Event
from processing.store.profiles.plan import ProfilePlan
from processing.store.sqlite.held_profiles import HeldProfiles
from processing.store.sqlite.rows import DECISION, content_of, known_decision, row_of

INSERT = (
    f"INSERT INTO decisions ({DECISION}) VALUES ({', '.join('?' * len(DECISION.split(',')))}) ON CONFLICT DO NOTHING"
)


class SqliteLedger:
    """The store within a transaction of `db`: see `OnlineStore.together`. What it counts is stored by `write`."""

    def __init__(self, plan: ProfilePlan, db: sqlite3.Connection) -> None:
        self.plan, self.db, self.profiles = plan, db, HeldProfiles(db, plan)

    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        return known_decision(self.db, event.transaction_id), self.state(event, plan)

    def state(self, event: Event, plan: StatePlan | None = None) -> list[int]:
        """The event's state, one entity after the other."""
        return self.plan.state(event, plan, lambda entity, key: [self.profiles.get(entity, key).profile])

    def record(self, decision: Decision) -> Decision:
        event, db = decision.event, self.db
        if not db.execute(INSERT, row_of(decision)).rowcount:
            standing = known_decision(db, event.transaction_id)
            assert standing is not None
            return standing
        tail = db.execute("SELECT content FROM tail WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        if tail is None:
            self.profiles.count(self.plan.counted(event), time.time_ns() // 1000)
        elif tail[0] != content_of(event):
            db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [event.transaction_id])
        return decision

    def write(self) -> None:
        """Store the profiles that changed, before the transaction ends."""
        self.profiles.write()
