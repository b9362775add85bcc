"""The labels that a refresh applies to profiles after it has set them from the tables."""

from collections.abc import Callable, Collection, Sequence
from threading import Lock
from typing import NamedTuple

from processing.store.decisions import Event
from processing.store.dynamo.attributes import event_of
from processing.store.dynamo.layout import Item
from processing.store.dynamo.profiles import Name, names_of
from processing.store.dynamo.reporting import is_counted
from processing.store.dynamo.table import Table
from processing.store.profiles.frauds import ASSUMED
from processing.store.profiles.profile import Counted, Profile


class _Label(NamedTuple):
    event: Counted
    is_fraud: bool
    item: Item | None  # of the decision; None for an event of the tables


class Labels:
    """Labels of transactions from the horizon on, which no settled profile has, and reports that are newer than the
    tables.

    tail, frauds: the events of the tables from the horizon on, and those of them that are fraud
    mark: the number of the last report that the tables have
    """

    def __init__(
        self,
        table: Table,
        since_us: int,
        tail: Sequence[Event],
        frauds: Collection[Event],
        mark: int,
        ends: Callable[[], float],
    ) -> None:
        self.table, self._since_us, self._mark, self._ends = table, since_us, mark, ends
        self._in_tail = {event.transaction_id for event in tail}
        self._by_name: dict[Name, list[_Label]] = {}
        self._last, self._lock = 0, Lock()
        self._new: dict[Name, None] = {}
        known = set(frauds)
        for event in tail:
            self._add(event, event in known, None)

    def catch_up(self) -> None:
        """Read the reports that came since the last time. A report of a profile that is read before this is known then,
        and one that comes later changes the profile."""
        with self._lock:
            reports = self.table.reports(self._ends(), self._last)
            chosen = [(item, event_of(item)) for number, item in reports if "keys" in item]
            chosen = [
                (item, event)
                for (number, _), (item, event) in zip(reports, chosen, strict=True)
                if number > self._mark
                or (event.time_us >= self._since_us and event.transaction_id not in self._in_tail)
            ]
            decisions = dict(self.table.items_of((event.transaction_id for _, event in chosen), self._ends))
            for item, event in chosen:
                if decision := decisions[event.transaction_id]:
                    self._add(event, item["is_fraud"]["BOOL"], decision)
            if reports:
                self._last = reports[-1][0]

    def apply(self, name: Name, profile: Profile, read: int, *, settled: bool = True) -> None:
        """Report the labels of a key to its profile, which counts the decisions read up to `read`.

        settled: whether the profile was set anew, so that no label is in it yet
        """
        with self._lock:
            labels = list(self._by_name.get(name, ()))
        for label in labels:
            if label.item is not None:
                if is_counted(label.item, label.event, profile, read):
                    profile.report(label.event, label.is_fraud, ASSUMED)
            elif label.is_fraud or (not settled and label.event.id in profile.frauds.reported):
                profile.report(label.event, label.is_fraud, ASSUMED)

    def take_new(self) -> list[Name]:
        """The keys of reports that were read since the last time."""
        with self._lock:
            names, self._new = list(self._new), {}
        return names

    @property
    def names(self) -> Collection[Name]:
        """The keys that have labels, or events in `tail`."""
        return self._by_name

    def _add(self, event: Event, is_fraud: bool, item: Item | None) -> None:
        events = self.table.plan.counted(event)
        for name, counted in zip(names_of(events), events, strict=True):
            self._by_name.setdefault(name, []).append(_Label(counted, is_fraud, item))
            if item is not None:
                self._new[name] = None
