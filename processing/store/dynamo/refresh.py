"""A refresh of the online store in DynamoDB: settle the profiles with the tables while the API goes on."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from processing.durations import HOUR_US
from processing.errors import BadInput
from processing.store.decisions import Event
from processing.store.dynamo.attributes import number
from processing.store.dynamo.calls import WRITTEN_AT_ONCE, Refused
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.labels import Labels
from processing.store.dynamo.layout import COUNTER, FACTS, LAG_NS, PROGRESS, address
from processing.store.dynamo.lists import missing_entries
from processing.store.dynamo.live import LiveEvents
from processing.store.dynamo.profiles import Name
from processing.store.dynamo.settling import Overtaken, Settling
from processing.store.dynamo.table import Table
from processing.store.dynamo.tail import Tail
from processing.store.groups import groups_of
from processing.store.refresh_data import Comparison, SettledProfile

CALL_SECONDS = 300.0  # a table on demand takes its time to scale up
THREADS = 16
STRAY_SECONDS = 2.0  # how long a decision under way may still count in a profile as it was


class Refresh:
    """One refresh, under a number of its own, which each profile that it sets notes.

    Each profile switches by itself, in one conditional write. What the API counted in it from the new horizon on stays
    counted. It is counted anew, from the tables and the decisions, if the horizon has moved back or profiles keep other
    things than before; and for keys of displaced decisions, as a single transaction cannot be taken out of a profile.

    A refresh of all profiles writes those of keys with transactions. A profile that it did not set tells by its number
    that the tables have nothing of its key any more.
    """

    def __init__(
        self, table: Table, horizon: int, comparison: Comparison, labelled_us: int, *, whole: bool, basis: str
    ) -> None:
        self.table, self.calls = table, table.calls
        self.horizon_us, self.comparison = horizon * HOUR_US, comparison
        self.began, self.whole = time.time_ns(), whole
        before, self.anew = self._begin(horizon)
        self.number = before.refresh + 1
        self.done = {
            "done": number(self.number),
            "done_horizon": number(horizon),
            "read": number(comparison.read_up_to),
            "pending": number(comparison.pending),
            "labelled": number(max(before.labelled, labelled_us)),
            "basis": {"S": basis},
            "plan": {"S": table.plan.digest},
        }
        if whole:
            self.done |= {"whole": number(self.number), "whole_horizon": number(horizon)}

    def _begin(self, horizon: int) -> tuple[Facts, bool]:
        """Note that a refresh begins; returns the facts from before, and whether it counts anew after the horizon."""
        ends, attempt = self._ends(), 0
        while True:
            before = self.table.facts(ends)
            anew = before.plan != self.table.plan.digest or horizon < max(before.horizon, before.done_horizon)
            values = {
                ":horizon": number(horizon),
                ":refresh": number(before.refresh + 1),
                ":seen": number(before.refresh),
                ":began": number(self.began // 1000),
                ":plan": {"S": "" if anew else before.plan},
            }
            free = "attribute_not_exists(#refresh) OR #refresh = :seen"
            setting = "SET #horizon = :horizon, #refresh = :refresh, #began = :began, #plan = :plan"
            try:
                self.calls.call("update_item", ends, **self.calls.update(PROGRESS, setting, values, free))
                return before, anew
            except Refused:  # another refresh begins at the same moment
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def run(
        self,
        profiles: Iterable[Sequence[SettledProfile]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event],
    ) -> None:
        """Count the tail, set the profiles, apply the reports after `mark`, and declare the refresh done."""
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                settling = self._settling(pool, tail, mark, frauds)
                others = {*settling.displaced_names, *settling.labels.names, *settling.live.names}
                _call_all(pool, ((settling.settle, (batch,)) for batch in _without(others, profiles)))
                of_others = settling.empty if self.whole else settling.relabel
                _call_all(pool, ((of_others, (names,)) for names in groups_of(list(others), WRITTEN_AT_ONCE)))
                if self.anew:
                    time.sleep(min(self.calls.timeout, STRAY_SECONDS))
                    strays = settling.live.missed(self.began - LAG_NS)
                    _call_all(pool, ((settling.count_anew, (name,)) for name in strays))
                self._complete_lists(pool)
                self._finish(settling)
        except Overtaken:
            raise BadInput(
                "another run started to refresh the online store before this one had finished; run again, one run at "
                "a time"
            ) from None

    def _settling(
        self, pool: ThreadPoolExecutor, tail: Sequence[Event], mark: int, frauds: Collection[Event]
    ) -> Settling:
        """Count the tail, and find what settled profiles do not have."""
        found = Tail(self.table, self._ends)
        _call_all(
            pool, ((found.displace, (ids,)) for ids in groups_of(list(self.comparison.displaced), WRITTEN_AT_ONCE))
        )
        _call_all(pool, ((found.count, (events,)) for events in groups_of(tail, WRITTEN_AT_ONCE)))
        displaced = {event.transaction_id: event for event in found.displaced}
        live = LiveEvents(self.table, self.horizon_us, tail, displaced, self._ends)
        if self.anew:
            live.read_all()
        return Settling(
            self.table,
            self.number,
            self.horizon_us,
            self.comparison.read_up_to,
            self.anew,
            Labels(self.table, self.horizon_us, tail, frauds, mark, self._ends),
            live,
            displaced,
            self._ends,
        )

    def _ends(self) -> float:
        return self.calls.ends(CALL_SECONDS)

    def _complete_lists(self, pool: ThreadPoolExecutor) -> None:
        """Add what servers of an earlier version wrote to the lists by which decisions are searched."""
        now = time.time_ns()
        entries = missing_entries(self.table, self._ends)
        _call_all(pool, ((self.calls.put_all, (items, self._ends())) for items in entries))
        listed = self.calls.update(FACTS, "SET #listed = :now", {":now": number(now)})
        self.calls.call("update_item", self._ends(), **listed)

    def _finish(self, settling: Settling) -> None:
        """Declare the refresh done, after all reports so far. One that comes later knows what it has read."""
        setting = "SET " + ", ".join(f"#{name} = :{name}" for name in self.done)
        values = {f":{name}": value for name, value in self.done.items()}
        declare = self.calls.update(PROGRESS, setting, values, "#refresh = :done")
        ends, attempt = self._ends(), 0
        while True:
            counter = self.calls.get([COUNTER], ends).get(address(COUNTER), {})
            settling.labels.catch_up()
            for names in groups_of(settling.labels.take_new(), WRITTEN_AT_ONCE):
                settling.relabel(names)
            unreported = self.calls.check(COUNTER, "attribute_not_exists(#next)", {})
            if counter:
                unreported = self.calls.check(COUNTER, "#next = :next", {":next": counter["next"]})
            try:
                self.calls.transact([{"Update": declare}, unreported], ends)
                return
            except Refused as refused:
                if 0 in refused.items:
                    raise Overtaken from None
                self.calls.pause(attempt, ends, None)  # another report came meanwhile
                attempt += 1


def _without(others: set[Name], profiles: Iterable[Sequence[SettledProfile]]) -> Iterator[Sequence[SettledProfile]]:
    """The profiles in small batches. Removes their keys from `others`."""
    for batch in profiles:
        for chunk in groups_of(batch, WRITTEN_AT_ONCE):
            others.difference_update((each.entity, each.key) for each in chunk)
            yield chunk


def _call_all(pool: ThreadPoolExecutor, calls: Iterable[tuple[Any, tuple[Any, ...]]]) -> None:
    """Make all calls, several at a time, and raise the first error."""
    running: set[Future[Any]] = set()
    for call, arguments in calls:
        running.add(pool.submit(call, *arguments))
        if len(running) >= 4 * THREADS:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    for future in running:
        future.result()
