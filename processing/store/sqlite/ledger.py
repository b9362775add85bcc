"""Recall and record decisions within one transaction of the SQLite store."""

import functools
import operator
import sqlite3
from collections.abc import Sequence

from processing.features.entity_keys import EntityKeys
from processing.features.windows import HOUR_US, Windows, edges, state_since
from processing.store.decisions import Decision, Event
from processing.store.sqlite.counting import count_event, is_uncounted
from processing.store.sqlite.rows import DECISION, content_of, known_decision, row_of


class SqliteLedger:
    """The store within a transaction of `db`: see `OnlineStore.together`."""

    def __init__(self, windows: Sequence[Windows], entity_keys: EntityKeys, db: sqlite3.Connection) -> None:
        self.windows, self.entity_keys, self.db = windows, entity_keys, db

    def recall(self, event: Event, windows: Sequence[Windows] | None = None) -> tuple[Decision | None, list[int]]:
        return known_decision(self.db, event.transaction_id), self.state(event, windows)

    def state(self, event: Event, windows: Sequence[Windows] | None = None) -> list[int]:
        """The event's state, one entity after the other."""
        state: list[int] = []
        keys = self.entity_keys.of(event.keys)
        for entity, (key, its) in enumerate(zip(keys, windows or self.windows, strict=True)):
            state += self._entity_state(entity, key, its, event)
        return state

    def _entity_state(self, entity: int, key: str, windows: Windows, event: Event) -> list[int]:
        hour = event.hour
        begins = edges(windows, hour)
        arguments = (entity, key, *begins, hour, hour * HOUR_US, event.time_us)
        *between, earlier, ends, after = self.db.execute(_sums(windows), arguments).fetchall()
        since = {}
        sums = (0, 0, 0, 0, 0)
        for begin, row in zip(reversed(begins), reversed(between), strict=True):
            sums = tuple(map(operator.add, sums, row))
            since[begin] = sums
        frauds = None if ends[0] is None else (ends[0], ends[1], after[0])
        return state_since(windows, hour, event.amount, since, earlier, frauds)

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
            count_event(db, self.entity_keys, event)
            return decision
        tail = db.execute("SELECT content FROM tail WHERE transaction_id = ?", [event.transaction_id]).fetchone()
        if tail and tail[0] not in (content_of(event), None):
            db.execute("INSERT OR IGNORE INTO displaced VALUES (?)", [event.transaction_id])
        return decision


@functools.cache
def _sums(windows: Windows) -> str:
    """The query for an entity's sums.

    Its rows: the sums between the edges of the windows and the event's hour; those of the ticks; the hours of the first
    and last fraud in the longest fraud window; the count of events after that last hour. ?1 entity, ?2 key, then the
    edges, the hour, and the times that the ticks lie between.
    """
    begins = edges(windows, 0)
    of_entity = "FROM buckets WHERE entity = ?1 AND key = ?2 AND hour"
    sums = ", ".join(f"ifnull(sum({column}), 0)" for column in "nsqfg")
    end = len(begins) + 3
    between = [f"SELECT {sums} {of_entity} >= ?{number} AND hour < ?{number + 1}" for number in range(3, end)]
    within = (
        "SELECT ifnull(sum(n), 0), ifnull(sum(s), 0), ifnull(sum(q), 0), 0, 0 FROM ticks"
        f" WHERE entity = ?1 AND key = ?2 AND time_us >= ?{end + 1} AND time_us < ?{end + 2}"
    )
    if not windows.fraud_hours:
        nothing = "SELECT NULL, NULL, 0, 0, 0"
        return " UNION ALL ".join([*between, within, nothing, nothing])
    low, high = (begins.index(edge) + 3 for edge in windows.fraud_edges(0))
    frauds = f"{of_entity} >= ?{low} AND hour < ?{high} AND f > 0"
    ends = f"SELECT min(hour), max(hour), 0, 0, 0 {frauds}"
    after = f"SELECT ifnull(sum(n), 0), 0, 0, 0, 0 {of_entity} > (SELECT max(hour) {frauds}) AND hour < ?{high}"
    return " UNION ALL ".join([*between, within, ends, after])
