"""Searches for recorded decisions, one page at a time.

A page reads at most MOST_READ decisions, however few match, so it may be short or empty and still have more behind it.
Pages follow a position rather than a count: decisions recorded meanwhile move nothing, and every decision that was
there at the start appears exactly once.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from processing.store.decisions import Decision

MOST_READ = 2_000  # decisions per page
LABELS = {None: "none", True: "fraud", False: "legit"}


@dataclass(frozen=True)
class Search:
    """What a decision must match. None matches everything.

    keys: values of the contract's `key_columns`
    since, until: when it was decided, from `since` up to but not including `until`
    label: the reported label, "none" if nothing was reported
    least: the smallest amount, in minor units
    reason: text contained in one of its reasons, ignoring case
    """

    transaction_id: str | None = None
    keys: tuple[str | None, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    decision: str | None = None
    label: Literal["none", "fraud", "legit"] | None = None
    least: int | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[int, str] | None:
        """The first key column searched for: its index among them, and its value."""
        return next(((index, key) for index, key in enumerate(self.keys) if key is not None), None)

    def matches(self, decision: Decision) -> bool:
        """Whether a decision meets every condition."""
        event = decision.event
        return (
            self.transaction_id in (None, event.transaction_id)
            and all(key in (None, own) for key, own in zip(self.keys, event.keys, strict=False))
            and (self.since is None or decision.decided_at >= self.since)
            and (self.until is None or decision.decided_at < self.until)
            and self.decision in (None, decision.decision)
            and self.label in (None, LABELS[decision.is_fraud])
            and (self.least is None or event.amount >= self.least)
            and (self.reason is None or _contains(decision.reasons, self.reason))
        )


def _contains(reasons: str | None, text: str) -> bool:
    """Whether one of the reasons, as `serving.decision.reasons` writes them, contains the text."""
    entries = json.loads(reasons) if reasons else []
    return any(text.casefold() in entry["text"].casefold() for entry in entries)


@dataclass(frozen=True)
class DecisionPage:
    """Decisions that match a search, newest first.

    first, last: positions of the newest and the oldest decision that was read, matching or not; None if none was
    more: whether there is more to read beyond them, in the direction of the walk
    reached: when the last decision that was read was made; None if none was
    """

    decisions: list[Decision]
    first: str | None = None
    last: str | None = None
    more: bool = False
    reached: datetime | None = None


def page_of(rows: Iterable[tuple[str, Decision]], search: Search, limit: int, *, newer: bool) -> DecisionPage:
    """A page of decisions, given with their positions in the order of the walk."""
    matches: list[Decision] = []
    begin, end, reached, count, more = None, None, None, 0, False
    for position, decision in rows:
        if len(matches) == limit or count == MOST_READ:
            more = True
            break
        count, end, reached = count + 1, position, decision.decided_at
        begin = begin or position
        if search.matches(decision):
            matches.append(decision)
    if newer:
        return DecisionPage(matches[::-1], end, begin, more, reached)
    return DecisionPage(matches, begin, end, more, reached)
