"""The events of the tables from the horizon on, which profiles count one by one: the last hours may not be over.

Each function works within a transaction of `db`.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence

from processing.store.decisions import Event
from processing.store.profiles.plan import ProfilePlan, id_hash
from processing.store.sqlite.held_profiles import HeldProfiles
from processing.store.sqlite.labels import note
from processing.store.sqlite.live_events import LiveEvents
from processing.store.sqlite.rows import content_of, extras_of, numbered_event, tail_event_of


class Tail:
    """The tail of a refresh: the events of the tables from the horizon on, and which of them are fraud."""

    def __init__(self, plan: ProfilePlan, events: Sequence[Event], frauds: Collection[Event], horizon_us: int) -> None:
        self.plan, self.frauds, self.horizon_us = plan, set(frauds), horizon_us
        self.contents = {event.transaction_id: content_of(event) for event in events}

    def begin(self, db: sqlite3.Connection, displaced: Iterable[str], pending: int) -> None:
        """Stop counting displaced decisions, and events that the tables no longer have."""
        gone = [event for event in map(tail_event_of, _rows(db)) if self._is_gone(event)]
        db.executemany("DELETE FROM tail WHERE transaction_id = ?", [(event.transaction_id,) for event in gone])
        self._uncount(db, [*gone, *_displace(db, displaced)], pending)

    def _is_gone(self, event: Event) -> bool:
        return event.time_us >= self.horizon_us and self.contents.get(event.transaction_id) != content_of(event)

    def count(self, db: sqlite3.Connection, events: Sequence[Event], pending: int, mark: int) -> None:
        """Count events that are not counted yet, and note their labels, unless there is a report after `mark`."""
        other = [
            event.transaction_id
            for event in events
            if (decided := numbered_event(db, event.transaction_id)) and decided.event != event
        ]
        self._uncount(db, _displace(db, other), pending)
        newer = {key for (key,) in db.execute("SELECT transaction_id FROM reports WHERE number > ?", [mark])}
        profiles = HeldProfiles(db, self.plan)
        for event in events:
            key, is_fraud = event.transaction_id, event in self.frauds
            row = db.execute("SELECT is_fraud FROM tail WHERE transaction_id = ?", [key]).fetchone()
            decided = numbered_event(db, key)
            if row is None and (decided is None or decided.event != event):
                profiles.count(self.plan.counted(event))
            is_reported = key in newer and decided is not None and decided.event == event
            if is_fraud != (row[0] if row else 0) and not is_reported:
                self._note(profiles, event, is_fraud)
            values = (key, content_of(event), extras_of(event), is_fraud)
            db.execute("INSERT OR REPLACE INTO tail VALUES (?, ?, ?, ?)", values)
        profiles.write()

    def _note(self, profiles: HeldProfiles, event: Event, is_fraud: bool) -> None:
        for each in self.plan.counted(event):
            if self.plan.has_frauds(each.entity):
                held = profiles.get(each.entity, each.key)
                if event.time_us >= held.profile.horizon_us:
                    note(held, each, is_fraud)

    def _uncount(self, db: sqlite3.Connection, events: Collection[Event], pending: int) -> None:
        """Count the profiles of events anew that are not to be counted any more. They are few."""
        if not events:
            return
        live, profiles = LiveEvents.read(db, self.plan, pending), HeldProfiles(db, self.plan)
        for event in events:
            number = id_hash(event.transaction_id)
            for each in self.plan.counted(event):
                held = profiles.get(each.entity, each.key)
                if event.time_us >= held.profile.horizon_us:
                    held.profile.count_anew(live.of(each.entity, each.key))
                    held.profile.frauds.forget(number)
                    held.is_changed = True
        profiles.write()

    def finish(self, db: sqlite3.Connection, *, whole: bool) -> None:
        """Forget the events that lie before the horizons of all their profiles."""
        old = [event for event in map(tail_event_of, _rows(db)) if event.time_us < self.horizon_us]
        gone = [event for event in old if whole or not self._is_live(db, event)]
        db.executemany("DELETE FROM tail WHERE transaction_id = ?", [(event.transaction_id,) for event in gone])

    def _is_live(self, db: sqlite3.Connection, event: Event) -> bool:
        own = "SELECT 1 FROM profiles WHERE entity = ? AND key = ? AND horizon_us <= ? AND newest_us > ?"
        return any(
            db.execute(own, (each.entity, each.key, event.time_us, event.time_us)).fetchone()
            for each in self.plan.counted(event)
        )


def _rows(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    return db.execute("SELECT transaction_id, content, extras FROM tail").fetchall()


def _displace(db: sqlite3.Connection, ids: Iterable[str]) -> list[Event]:
    """Note that decisions do not count, and return the events of those that did."""
    missing = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT transaction_id FROM displaced)"
    events = []
    for (key,) in db.execute(missing, [json.dumps(list(ids))]).fetchall():
        if decided := numbered_event(db, key):
            db.execute("INSERT INTO displaced VALUES (?)", [key])
            events.append(decided.event)
    return events
