"""The transactions that the profiles of a SQLite store count one by one."""

import sqlite3
from collections import defaultdict

from processing.store.decisions import Event
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Counted
from processing.store.sqlite.labels import NOT_DISPLACED
from processing.store.sqlite.rows import EVENT, event_of, tail_event_of


class LiveEvents:
    """Those of the tail, and the decided ones that the tables lack, by entity and key.

    pending: the number of the first decision that the tables may lack
    """

    def __init__(self, plan: ProfilePlan, pending: int) -> None:
        self.plan, self._next = plan, pending
        self._of_key: dict[tuple[str, str], list[Counted]] = defaultdict(list)

    @classmethod
    def read(cls, db: sqlite3.Connection, plan: ProfilePlan, pending: int) -> "LiveEvents":
        """All that there are in a transaction of `db`."""
        events = cls(plan, pending)
        for row in db.execute("SELECT transaction_id, content, extras FROM tail"):
            events._add(tail_event_of(row))
        events.catch_up(db)
        return events

    def catch_up(self, db: sqlite3.Connection) -> None:
        """Add the decisions that were recorded since. The tail is still the same."""
        newer = (
            f"SELECT number, {EVENT} FROM decisions WHERE number >= ? AND {NOT_DISPLACED}"
            " AND transaction_id NOT IN (SELECT transaction_id FROM tail) ORDER BY number"
        )
        for number, *row in db.execute(newer, [self._next]).fetchall():
            self._next = number + 1
            self._add(event_of(row))

    def _add(self, event: Event) -> None:
        for each in self.plan.counted(event):
            self._of_key[each.entity, each.key].append(each)

    def keys(self) -> list[tuple[str, str]]:
        """The entities and keys that have any."""
        return list(self._of_key)

    def of(self, entity: str, key: str) -> list[Counted]:
        """Those of a key. A profile counts those that are not before its horizon."""
        return self._of_key.get((entity, key), [])
