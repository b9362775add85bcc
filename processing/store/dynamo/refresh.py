"""A refresh of the online store in DynamoDB: set the hours of the tables while the API goes on."""

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import groupby
from typing import Any, TypeVar

from processing.errors import BadInput
from processing.features.windows import HOUR_US
from processing.storage.scratch import scratch_folder
from processing.store.decisions import Event
from processing.store.dynamo.attributes import event_of, number
from processing.store.dynamo.calls import WRITTEN_AT_ONCE, Refused
from processing.store.dynamo.counters import is_counted
from processing.store.dynamo.day_items import counters_of, fraud_items, sorted_buckets
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import COUNTER, DAY_HOURS, FACTS, LAG_NS, Item, address, day_key, decision_key
from processing.store.dynamo.lists import missing_entries
from processing.store.dynamo.table import Table
from processing.store.dynamo.tail import Overtaken, Tail
from processing.store.refresh_data import Bucket, Comparison

Row = TypeVar("Row")

CALL_SECONDS = 300.0  # a table on demand takes its time to scale up
THREADS = 8
STRAY_SECONDS = 2.0  # how long a decision under way may still count in the previous era


class Refresh:
    """One refresh, under a number of its own.

    First it moves the horizon, so that the API no longer changes the hours before it. Then it sets the days. Each item
    notes which refresh set it, and `until` when, so that it refuses a decision still under way. When all days are set,
    the refresh is declared done. Items that no refresh has set since no longer count; their time to live deletes them.

    If the horizon moves back, items hold hours after it that a refresh has set. Then everything is counted in a new
    era, with items of its own, which replaces the previous one when the refresh is declared done.
    """

    def __init__(self, table: Table, horizon: int, comparison: Comparison, labelled_us: int) -> None:
        self.table, self.calls = table, table.calls
        self.horizon, self.comparison, self.began = horizon, comparison, time.time_ns() // 1000
        before = self._begin()
        self.new_era = horizon < max(before.horizon, before.done_horizon)
        refresh = before.refresh + 1
        # As they will be when this refresh is done:
        self.facts = Facts(
            contract=before.contract,
            horizon=horizon,
            refresh=refresh,
            done=refresh,
            done_horizon=horizon,
            era=refresh if self.new_era else before.era,
            read=comparison.read_up_to,
            pending=comparison.pending,
            began=self.began,
            labelled=max(before.labelled, labelled_us),
            listed=before.listed,
        )
        self.tail = Tail(table, self.facts, self._ends)

    def _begin(self) -> Facts:
        """Move the horizon; returns the facts from before."""
        ends, attempt = self._ends(), 0
        while True:
            before = self.table.facts(ends)
            values = {
                ":horizon": number(self.horizon),
                ":refresh": number(before.refresh + 1),
                ":seen": number(before.refresh),
                ":began": number(self.began),
            }
            free = "attribute_not_exists(#refresh) OR #refresh = :seen"
            begin = self.calls.update(
                FACTS, "SET #horizon = :horizon, #refresh = :refresh, #began = :began", values, free
            )
            try:
                self.calls.call("update_item", ends, **begin)
                return before
            except Refused:  # another refresh begins at the same moment
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def run(
        self, buckets: Iterable[Sequence[Bucket]], tail: Sequence[Event], mark: int, frauds: Collection[Event]
    ) -> None:
        """Count the tail, set the buckets, apply the reports after `mark`, and declare the refresh done."""
        try:
            with ThreadPoolExecutor(THREADS) as pool, scratch_folder("refresh") as folder:
                displaced = list(self.comparison.displaced)
                _call_all(pool, ((self.tail.displace, (ids,)) for ids in _chunks(displaced)))
                _call_all(pool, ((self.tail.count, (events,)) for events in _chunks(tail)))
                with closing(sqlite3.connect(folder / "buckets.sqlite")) as db:
                    _call_all(pool, self._day_calls(sorted_buckets(db, buckets)))
                _call_all(pool, ((self._put, (items,)) for items in _chunks(fraud_items(frauds))))
                if self.new_era:
                    self._catch_up(pool)
                known = set(frauds)
                _call_all(pool, ((self.tail.label, (events, known)) for events in _chunks(tail)))
                attempt, ends = 0, self._ends()
                while not self._finish(mark, known):  # another report came meanwhile
                    self.calls.pause(attempt, ends, None)
                    attempt += 1
                if self.new_era:  # decisions made meanwhile were counted in the previous era
                    time.sleep(min(self.calls.timeout, STRAY_SECONDS))
                    self._catch_up(pool)
                self._complete_lists(pool)
        except Overtaken:
            raise BadInput(
                "another run started to refresh the online store before this one had finished; run again, one run at "
                "a time"
            ) from None

    def _ends(self) -> float:
        return self.calls.ends(CALL_SECONDS)

    def _complete_lists(self, pool: ThreadPoolExecutor) -> None:
        """Add what servers of an earlier version wrote to the lists by which decisions are searched."""
        now = time.time_ns()
        _call_all(pool, ((self._put, (items,)) for items in missing_entries(self.table, self._ends)))
        listed = self.calls.update(FACTS, "SET #listed = :now", {":now": number(now)})
        self.calls.call("update_item", self._ends(), **listed)

    def _catch_up(self, pool: ThreadPoolExecutor) -> None:
        """Count decisions from the horizon on in the new era."""
        pending = self.table.facts(self.calls.ends()).pending
        since_us = self.horizon * HOUR_US
        for batch in self.table.recorded_batches(max(0, pending - LAG_NS), since_us):
            ids = [row.event.transaction_id for row in batch]
            _call_all(pool, ((self.tail.catch_up, (chunk,)) for chunk in _chunks(ids)))

    def _finish(self, mark: int, known: set[Event]) -> bool:
        """Apply the reports after `mark` and declare the refresh done; False if another report came."""
        ends = self._ends()
        counter = self.calls.get([COUNTER], ends).get(address(COUNTER), {})
        newer = {item["id"]["S"]: item["is_fraud"]["BOOL"] for count, item in self.table.reports(ends) if count > mark}
        for transaction_id, label in newer.items():
            key = decision_key(transaction_id)
            item = self.calls.get([key], ends)[address(key)]  # a report needs a decision
            event = event_of(item)
            if is_counted(item, self.facts, event in known):
                self.tail.relabel(event, item, label, event in known)
        names = ("done", "done_horizon", "era", "read", "pending", "labelled")
        values = {f":{name}": number(getattr(self.facts, name)) for name in names}
        done = "SET " + ", ".join(f"#{name} = :{name}" for name in names)
        declare = self.calls.update(FACTS, done, values, "#refresh = :done")
        unreported = self.calls.check(COUNTER, "attribute_not_exists(#next)", {})
        if counter:
            unreported = self.calls.check(COUNTER, "#next = :next", {":next": counter["next"]})
        try:
            self.calls.call("transact_write_items", ends, TransactItems=[{"Update": declare}, unreported])
        except Refused as refused:
            if 0 in refused.items:
                raise Overtaken from None
            return False
        return True

    def _day_calls(self, buckets: Iterator[Bucket]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """The calls that set the days: many whole items at a time, but the day of the horizon hour by hour."""
        last, items = self.horizon // DAY_HOURS, []
        for (entity, key, day), hours in groupby(buckets, lambda row: (row.entity, row.key, row.hour // DAY_HOURS)):
            item_key, counters = day_key(entity, key, day, self.facts.era), counters_of(hours)
            if day >= last:
                yield self._set_hours, (item_key, counters)
                continue
            items.append(item_key | counters | self._stamp())
            if len(items) == WRITTEN_AT_ONCE:
                yield self._put, (items,)
                items = []
        if items:
            yield self._put, (items,)

    def _stamp(self) -> Item:
        stamp = {"refresh": self.facts.refresh, "until": self.horizon}
        return {name: number(value) for name, value in stamp.items()} | {"expires": self.table.counters_expiry()}

    def _put(self, items: list[Item]) -> None:
        self.calls.put_all(items, self._ends())

    def _set_hours(self, key: Item, counters: Item) -> None:
        """Set the hours before the horizon, and leave those after it to the API."""
        attributes = counters | self._stamp()
        before = range(self.horizon % DAY_HOURS)
        names = (f"{kind}{hour}" for hour in before for kind in "nsqfg")
        outdated = [name for name in names if name not in attributes]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in attributes)
        if outdated:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in outdated)
        update = self.calls.update(key, expression, {f":{name}": value for name, value in attributes.items()})
        self.calls.call("update_item", self._ends(), **update)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        yield rows[start : start + WRITTEN_AT_ONCE]


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
