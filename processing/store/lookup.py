"""Looking recorded decisions up: which ones, and a page of them at a time.

A page reads at most LOOKED_AT decisions, however few of them are looked for. So it may be short, or empty, and still
have more behind it. It is walked from a position, not from a count, so decisions that come meanwhile move nothing:
each one that was there when the walk began is met once.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from processing.store.interface import Decision

LOOKED_AT = 2_000  # decisions that are read for one page
LABELS = {None: "none", True: "fraud", False: "legit"}


@dataclass(frozen=True)
class Search:
    """Which decisions are looked for: those that meet all of this; what is None is not asked.

    keys: the entities' values, by their place in the contract
    since, until: when it was decided, from `since` on and before `until`
    label: what was reported of it, "none" while nothing was
    least: its amount in minor units
    reason: words in one of its reasons, in any case
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
        """The first entity that is asked for: its place and value."""
        return next(((place, key) for place, key in enumerate(self.keys) if key is not None), None)

    def has(self, made: Decision) -> bool:
        """Whether a decision is among those looked for."""
        event = made.event
        return (
            self.transaction_id in (None, event.transaction_id)
            and all(key in (None, own) for key, own in zip(self.keys, event.keys, strict=False))
            and (self.since is None or made.decided_at >= self.since)
            and (self.until is None or made.decided_at < self.until)
            and self.decision in (None, made.decision)
            and self.label in (None, LABELS[made.is_fraud])
            and (self.least is None or event.amount >= self.least)
            and (self.reason is None or self._is_reason(made.reasons))
        )

    def _is_reason(self, reasons: str | None) -> bool:
        wanted = str(self.reason).casefold()
        told = json.loads(reasons) if reasons else []
        return any(wanted in one["text"].casefold() for one in told)  # as `serving.decision.reasons` writes them


@dataclass(frozen=True)
class Page:
    """Decisions that were looked for, newest first.

    first, last: the positions of the newest and the oldest decision that was read, found or not; None if none was
    more: whether there is more to read beyond them, in the direction of the walk
    reached: when the last one that was read was decided; None if none was
    """

    decisions: list[Decision]
    first: str | None = None
    last: str | None = None
    more: bool = False
    reached: datetime | None = None


def page_of(rows: Iterable[tuple[str, Decision]], search: Search, limit: int, *, newer: bool) -> Page:
    """The page of decisions that come with their positions in the order of the walk."""
    found: list[Decision] = []
    begin, end, reached, looked, more = None, None, None, 0, False
    for position, made in rows:
        if len(found) == limit or looked == LOOKED_AT:
            more = True
            break
        looked, end, reached = looked + 1, position, made.decided_at
        begin = begin or position
        if search.has(made):
            found.append(made)
    if newer:
        return Page(found[::-1], end, begin, more, reached)
    return Page(found, begin, end, more, reached)
