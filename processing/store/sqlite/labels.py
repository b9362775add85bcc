"""Labels in the SQLite store: reports of decided transactions, and what a refresh repeats of them.

Each function works within a transaction of `db`.
"""

import sqlite3
from collections import defaultdict
from typing import NamedTuple

from processing.store.profiles.frauds import ASSUMED
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Counted
from processing.store.sqlite.held_profiles import HeldProfile, HeldProfiles
from processing.store.sqlite.rows import EVENT, Numbered, event_of, tail_event_of
from processing.store.sqlite.schema import fact

NOT_DISPLACED = "transaction_id NOT IN (SELECT transaction_id FROM displaced)"


def count_report(profiles: HeldProfiles, decided: Numbered, is_fraud: bool) -> None:
    """Note a report in the profiles that count the decided event."""
    db, plan = profiles.db, profiles.plan
    event, number = decided
    if db.execute("SELECT 1 FROM displaced WHERE transaction_id = ?", [event.transaction_id]).fetchone():
        return
    read, migrated = fact(db, "read"), fact(db, "migrated")
    pairs = [
        (profiles.get(each.entity, each.key), each) for each in plan.counted(event) if plan.has_frauds(each.entity)
    ]
    known = number <= read or all(held.profile.frauds.holds(each.id, each.time_us, each.amount) for held, each in pairs)
    for held, each in pairs:
        if known or is_counted(held, each, number, migrated):
            note(held, each, is_fraud)


def is_counted(held: HeldProfile, event: Counted, number: int, migrated: int) -> bool:
    """Whether a profile counts the event of the decision of that number, which is not displaced, as far as it knows."""
    return number <= held.read or (event.time_us >= held.profile.horizon_us and number > migrated)


def note(held: HeldProfile, event: Counted, is_fraud: bool) -> None:
    """Note the label of an event in one of its profiles."""
    held.profile.report(event, is_fraud, ASSUMED)
    held.is_changed = True


class Repeated(NamedTuple):
    """A label that a refresh notes anew in a profile that it settles.

    number: of the decision; 0 for a row of the tail
    """

    event: Counted
    number: int
    is_fraud: bool


class LaterLabels:
    """The labels that profiles lack when they are settled, by entity and key.

    They are the frauds of the tail, the reports of decided events from the horizon on that the tables lack, and those
    that came after the report `mark`.
    """

    def __init__(self, plan: ProfilePlan, horizon_us: int, mark: int) -> None:
        self.plan, self.horizon_us, self.mark = plan, horizon_us, mark
        self._of_key: dict[tuple[str, str], list[Repeated]] = defaultdict(list)

    def begin(self, db: sqlite3.Connection) -> None:
        """Read what there is so far. The tail is complete."""
        for row in db.execute("SELECT transaction_id, content, extras FROM tail WHERE is_fraud"):
            event = tail_event_of(row)
            if event.time_us >= self.horizon_us:
                self._add(Numbered(event, 0), True)
        live = (
            f"SELECT number, is_fraud, {EVENT} FROM decisions WHERE is_fraud IS NOT NULL AND time_us >= ?"
            f" AND {NOT_DISPLACED} AND transaction_id NOT IN (SELECT transaction_id FROM tail)"
        )
        for number, is_fraud, *row in db.execute(live, [self.horizon_us]):
            self._add(Numbered(event_of(row), number), bool(is_fraud))
        self.catch_up(db)

    def catch_up(self, db: sqlite3.Connection) -> None:
        """Read the reports that came since."""
        newer = (
            f"SELECT reports.number, decisions.number, reports.is_fraud, {EVENT} FROM reports"
            f" JOIN decisions USING (transaction_id) WHERE reports.number > ? AND {NOT_DISPLACED}"
            " ORDER BY reports.number"
        )
        for mark, number, is_fraud, *row in db.execute(newer, [self.mark]).fetchall():
            self.mark = mark
            self._add(Numbered(event_of(row), number), bool(is_fraud))

    def _add(self, decided: Numbered, is_fraud: bool) -> None:
        for each in self.plan.counted(decided.event):
            if self.plan.has_frauds(each.entity):
                self._of_key[each.entity, each.key].append(Repeated(each, decided.number, is_fraud))

    def of(self, entity: str, key: str) -> list[Repeated]:
        """Those of a key, in the order in which they count."""
        return self._of_key.get((entity, key), [])


def repeat(held: HeldProfile, labels: list[Repeated], migrated: int) -> None:
    """Note labels anew in a profile that was settled just now."""
    for event, number, is_fraud in labels:
        known = held.profile.frauds.holds(event.id, event.time_us, event.amount)
        if number == 0 or known or is_counted(held, event, number, migrated):
            note(held, event, is_fraud)
