"""A refresh of the SQLite store: count the tail, then settle one profile after the other, while the API goes on."""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from processing.durations import HOUR_US
from processing.store.decisions import Event
from processing.store.groups import groups_of
from processing.store.profiles.packing import unpack
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Profile
from processing.store.refresh_data import Comparison, SettledProfile
from processing.store.sqlite.held_profiles import HeldProfiles
from processing.store.sqlite.labels import LaterLabels, repeat
from processing.store.sqlite.live_events import LiveEvents
from processing.store.sqlite.schema import fact, note_labelled, set_facts, text_fact
from processing.store.sqlite.tail import Tail

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]

AT_ONCE = 100  # profiles, or events of the tail, in one transaction: the API waits some milliseconds at most


class Refresh:
    """One refresh: see `OnlineStore.refresh`. Each `transaction` writes; other writers may come in between."""

    def __init__(
        self,
        transaction: Transaction,
        plan: ProfilePlan,
        horizon: int,
        mark: int,
        comparison: Comparison,
        *,
        whole: bool,
    ) -> None:
        self.transaction, self.plan, self.comparison, self.whole = transaction, plan, comparison, whole
        self.horizon, self.horizon_us = horizon, horizon * HOUR_US
        self.labels = LaterLabels(plan, self.horizon_us, mark)
        self.live: LiveEvents | None = None  # what profiles count from the horizon on, if they cannot be relied on
        self.number = self.migrated = 0

    def run(
        self,
        profiles: Iterable[Sequence[SettledProfile]],
        tail: Sequence[Event],
        frauds: Collection[Event],
        labelled_us: int,
        basis: str,
    ) -> None:
        """Do all of it."""
        rows = Tail(self.plan, tail, frauds, self.horizon_us)
        with self.transaction() as db:
            anew, pending = self._begin(db), fact(db, "pending")
            rows.begin(db, self.comparison.displaced, pending)
            set_facts(db, {"pending": self.comparison.pending})
        for events in groups_of(tail, AT_ONCE):
            with self.transaction() as db:
                rows.count(db, events, pending, self.labels.mark)
        with self.transaction() as db:
            self.labels.begin(db)
            self.live = LiveEvents.read(db, self.plan, pending) if anew else None
        for batch in profiles:
            for some in groups_of(batch, AT_ONCE):
                with self._settling() as held:
                    for each in some:
                        layout = self.plan.layouts[each.entity]
                        self._settle(held, each.entity, each.key, unpack(layout, each.data))
        if self.whole:
            self._settle_others()
        with self.transaction() as db:
            rows.finish(db, whole=self.whole)
            self._finish(db, labelled_us, basis)

    def _begin(self, db: sqlite3.Connection) -> bool:
        """Note that the refresh has begun. Returns whether live parts of profiles are to be counted anew."""
        # A profile counts nothing before its horizon, and lacks what a contract added since.
        anew = self.horizon < fact(db, "horizon") or text_fact(db, "plan") != self.plan.digest
        self.number, self.migrated = fact(db, "refresh") + 1, fact(db, "migrated")
        began = time.time_ns() // 1000
        set_facts(db, {"horizon": self.horizon, "refresh": self.number, "began": began, "basis": ""})
        return anew

    @contextmanager
    def _settling(self) -> Iterator[HeldProfiles]:
        """A transaction that settles profiles with what came until it began."""
        with self.transaction() as db:
            self.labels.catch_up(db)
            if self.live:
                self.live.catch_up(db)
            held = HeldProfiles(db, self.plan)
            yield held
            held.write()

    def _settle(self, profiles: HeldProfiles, entity: str, key: str, settled: Profile) -> None:
        held = profiles.get(entity, key)
        held.profile.settle(settled, self.live.of(entity, key) if self.live else None)
        held.refresh, held.read, held.is_changed = self.number, self.comparison.read_up_to, True
        repeat(held, self.labels.of(entity, key), self.migrated)

    def _settle_others(self) -> None:
        """Settle the profiles of all keys that have no transaction before the horizon."""
        last = 0
        some = "SELECT rowid, entity, key FROM profiles WHERE rowid > ? AND refresh <> ? ORDER BY rowid LIMIT ?"
        while True:
            with self._settling() as held:
                rows = held.db.execute(some, (last, self.number, AT_ONCE)).fetchall()
                for last, entity, key in rows:  # noqa: B007 - the last one is where to go on
                    self._settle_empty(held, entity, key)
            if not rows:
                break
        for keys in groups_of(self.live.keys() if self.live else [], AT_ONCE):
            with self._settling() as held:
                for entity, key in keys:
                    if held.get(entity, key).refresh != self.number:
                        self._settle_empty(held, entity, key)

    def _settle_empty(self, held: HeldProfiles, entity: str, key: str) -> None:
        if entity in self.plan.layouts:
            self._settle(held, entity, key, Profile(self.plan.layouts[entity], self.horizon_us))
        else:  # the contract no longer has it
            held.db.execute("DELETE FROM profiles WHERE entity = ? AND key = ?", (entity, key))

    def _finish(self, db: sqlite3.Connection, labelled_us: int, basis: str) -> None:
        db.execute("DELETE FROM profiles WHERE newest_us < ?", [self.horizon_us - self.plan.longest_us])
        note_labelled(db, labelled_us)
        set_facts(db, {"done": self.number, "read": self.comparison.read_up_to, "basis": basis})
        if self.whole:
            set_facts(db, {"plan": self.plan.digest, "migrated": 0})
