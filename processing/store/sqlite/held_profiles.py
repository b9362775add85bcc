"""The profiles that one transaction of the SQLite store reads and writes."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from processing.store.profiles.packing import pack, unpack
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Counted, Profile

READ = "SELECT data, refresh, read FROM profiles WHERE entity = ? AND key = ?"
WRITE = """INSERT INTO profiles (entity, key, horizon_us, newest_us, refresh, read, data) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET horizon_us = excluded.horizon_us, newest_us = excluded.newest_us,
    refresh = excluded.refresh, read = excluded.read, data = excluded.data"""


@dataclass(slots=True)
class HeldProfile:
    """A profile in memory.

    refresh: the number of the refresh that settled it; 0 if none did
    read: the number of the last decision that this refresh compared with the tables
    """

    profile: Profile
    refresh: int = 0
    read: int = 0
    is_stored: bool = False
    is_changed: bool = False


class HeldProfiles:
    """Profiles that a transaction of `db` uses. It unpacks each once, and packs those that changed when it writes."""

    def __init__(self, db: sqlite3.Connection, plan: ProfilePlan) -> None:
        self.db, self.plan = db, plan
        self._held: dict[tuple[str, str], HeldProfile] = {}

    def get(self, entity: str, key: str) -> HeldProfile:
        """The profile of a key; an empty one if none is stored."""
        held = self._held.get((entity, key))
        if held is None:
            layout, row = self.plan.layouts[entity], self.db.execute(READ, (entity, key)).fetchone()
            if row:
                held = HeldProfile(unpack(layout, row[0]), row[1], row[2], is_stored=True)
            else:
                held = HeldProfile(Profile(layout))
            self._held[entity, key] = held
        return held

    def count(self, events: Iterable[Counted], now_us: int | None = None) -> None:
        """Count a transaction in the profiles that do not lie beyond it; with `now_us`, drop what is too old then."""
        for event in events:
            held = self.get(event.entity, event.key)
            if held.profile.count(event):
                held.is_changed = True
                if now_us is not None:
                    held.profile.prune(min(now_us, event.time_us))

    def write(self) -> None:
        """Write the profiles that changed. One without any transaction is deleted."""
        for (entity, key), held in self._held.items():
            if held.is_changed:
                profile = held.profile
                newest_us = profile.newest_us
                if newest_us:
                    row = (entity, key, profile.horizon_us, newest_us, held.refresh, held.read, pack(profile))
                    self.db.execute(WRITE, row)
                elif held.is_stored:
                    self.db.execute("DELETE FROM profiles WHERE entity = ? AND key = ?", (entity, key))
                held.is_changed = False
                held.is_stored = newest_us > 0
