"""Recall and record decisions within one transaction of the SQLite store."""

import sqlite3

from processing.features.state_plan import StatePlan
from processing.store.decisions import Decision, Event
from processing.store.sqlite.counting import count_event, is_uncounted, seen_by
from processing.store.sqlite.rows import DECISION, content_of, known_decision, row_of
from processing.store.sqlite.tiles import SqliteTiles


class SqliteLedger:
    """The store within a transaction of `db`: see `OnlineStore.together`."""

    def __init__(self, plan: StatePlan, db: sqlite3.Connection) -> None:
        self.plan, self.db = plan, db

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        return known_decision(self.db, event.transaction_id), self.state(event)

    def state(self, event: Event) -> list[int]:
        """The event's state, one entity after the other."""
        state: list[int] = []
        for each in seen_by(self.plan, event):
            tiles = SqliteTiles(self.db, self.plan.entities[each.entity], each)
            state += each.windows.state_at(each.values, tiles)
        return state

    def record(self, decision: Decision) -> Decision:
        event, db = decision.event, self.db
        row = row_of(decision)
        values = ", ".join("?" * len(row))
        insert = f"INSERT INTO decisions ({DECISION}) VALUES ({values}) ON CONFLICT DO NOTHING"
        if not db.execute(insert, row).rowcount:
            standing = known_decision(db, event.transaction_id)
            assert standing is not None
            return standing
        # Before the horizon only a run knows what the tables have. Events of the tail are counted already.
        if is_uncounted(db, event):
            count_event(db, self.plan, event)
            return decision
        tail = db.execute("SELECT content FROM tail WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        if tail and tail[0] not in (content_of(event), None):
            db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [event.transaction_id])
        return decision
