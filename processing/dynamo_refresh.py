"""The refresh of the online store in DynamoDB: the data's hours are set, while the API goes on."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from processing.dynamo_calls import WRITTEN_AT_ONCE, Refused
from processing.dynamo_items import (
    COUNTER,
    DAY_HOURS,
    FACTS,
    FRAUD_SHARDS,
    Item,
    address,
    day_key,
    decision_key,
    decision_of,
    fraud_mark,
    frauds_key,
    integer,
    number,
)
from processing.errors import BadInput
from processing.online import Bucket, Event
from processing.scratch import scratch_folder

if TYPE_CHECKING:
    from processing.online_dynamo import DynamoStore

Row = TypeVar("Row")

PATIENCE_SECONDS = 300.0  # for one call: a table on demand takes its time to grow
THREADS = 8
UNTOLD = "attribute_not_exists(#recorded) AND (attribute_not_exists(#tail) OR #tail < :horizon)"


class Refresh:
    """One refresh, under a number of its own.

    First the horizon moves: from here on the API leaves the hours before it alone. Then the days are set; an item
    carries the refresh that set it, and `until` when, so that a decision still under way is refused by it. When all
    are set, the refresh is declared done, and what no refresh has set since counts no more: it is dropped unread,
    and removed by its time to live.
    """

    def __init__(self, store: "DynamoStore", horizon: int) -> None:
        self.store, self.calls = store, store.calls
        self.horizon = horizon
        self.number = self._begin()

    def _begin(self) -> int:
        ends, attempt = self._ends(), 0
        while True:
            seen = self.store.facts(ends)
            if self.horizon < seen.horizon:
                raise BadInput(
                    f"the online store already holds hours up to {seen.horizon}, the data ends at {self.horizon}"
                )
            values = {
                ":horizon": number(self.horizon),
                ":refresh": number(seen.refresh + 1),
                ":seen": number(seen.refresh),
            }
            free = "attribute_not_exists(#refresh) OR #refresh = :seen"
            begin = self.calls.update(FACTS, "SET #horizon = :horizon, #refresh = :refresh", values, free)
            try:
                self.calls.call("update_item", ends, **begin)
                return seen.refresh + 1
            except Refused:  # another refresh begins at the same moment
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def run(
        self, buckets: Iterable[Sequence[Bucket]], tail: Sequence[Event], mark: int, frauds: Collection[str]
    ) -> None:
        """Count the tail, set the buckets, count what was reported since the data was read, and declare it done."""
        known = set(frauds)
        for count, key, label in self.store.told(self._ends()):
            if count <= mark:  # the run has read it, and so its data says the same
                (known.add if label else known.discard)(key)
        with ThreadPoolExecutor(THREADS) as pool, scratch_folder("refresh") as folder:
            _all(pool, ((self._count, (event,)) for event in tail))
            with closing(sqlite3.connect(folder / "buckets.sqlite")) as db:
                _all(pool, self._settings(_in_order(db, buckets)))
            _all(pool, ((self._put, (items,)) for items in _chunks(_frauds_items(known))))
            _all(pool, ((self._label_tail, (events, known)) for events in _chunks(tail)))
        attempt, ends = 0, self._ends()
        while not self._finish(mark, known):  # more was reported meanwhile
            self.calls.pause(attempt, ends, None)
            attempt += 1

    def _ends(self) -> float:
        return self.calls.ends(PATIENCE_SECONDS)

    def _finish(self, mark: int, known: set[str]) -> bool:
        """Count the reports newer than `mark`, and declare the refresh done; False if another report came."""
        ends = self._ends()
        found = self.calls.get([COUNTER], ends).get(address(COUNTER), {})
        newer = {key: label for count, key, label in self.store.told(ends) if count > mark}
        for key, label in newer.items():
            place = decision_key(key)
            item = self.calls.get([place], ends)[address(place)]
            decision = decision_of(item)
            assert decision is not None  # what is not decided cannot be reported
            self._label(decision.event, item, label, key in known)
        values = {":done": number(self.number), ":horizon": number(self.horizon)}
        done = "SET #done = :done, #done_horizon = :horizon"
        declare = self.calls.update(FACTS, done, values, "#refresh = :done")
        still = self.calls.check(COUNTER, "attribute_not_exists(#next)", {})
        if found:
            still = self.calls.check(COUNTER, "#next = :next", {":next": found["next"]})
        try:
            self.calls.call("transact_write_items", ends, TransactItems=[{"Update": declare}, still])
        except Refused as refused:
            if 0 in refused.items:
                raise _overtaken() from None
            return False
        return True

    def _label_tail(self, events: Sequence[Event], known: set[str]) -> None:
        """Let the data's last hour count as the data labels it: its counters are not set anew."""
        places = {event.transaction_id: address(decision_key(event.transaction_id)) for event in events}
        found = self.calls.get([decision_key(name) for name in places], self._ends())
        for event in events:
            item = found[places[event.transaction_id]]
            before = item["counted"]["BOOL"] if "counted" in item else False
            self._label(event, item, event.transaction_id in known, before)

    def _label(self, event: Event, item: Item, label: bool, before: bool) -> None:
        """Count an event as a fraud or as none; `before`: what the data says of it, where it is told by the data."""
        since = integer(item, "basis", -1) == self.number or event.hour >= self.horizon
        if since and "counted" in item:
            before = item["counted"]["BOOL"]
        if label == before:
            return
        values = {":label": {"BOOL": label}, ":number": number(self.number)}
        setting = "SET #counted = :label, #basis = :number"
        own = self.calls.update(decision_key(event.transaction_id), setting, values)
        changes = [{"Update": own}, *self.store.moving(event, int(label) - int(before))]
        changes.append(self.calls.check(FACTS, "#refresh = :number", {":number": number(self.number)}))
        try:
            self.calls.call("transact_write_items", self._ends(), TransactItems=changes)
        except Refused:
            raise _overtaken() from None

    def _count(self, event: Event) -> None:
        """Count an event of the data's last hour, unless it was."""
        values = {":horizon": number(self.horizon), ":end": self.store.counters_expiry()}
        told = self.calls.update(
            decision_key(event.transaction_id), "SET #tail = :horizon, #expires = :end", values, UNTOLD
        )
        changes = [{"Update": update} for update in (told, *self.store.counting(event))]
        try:
            self.calls.call("transact_write_items", self._ends(), TransactItems=changes)
        except Refused:  # it was decided, or counted by an earlier refresh
            return

    def _settings(self, rows: Iterator[Bucket]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """The calls that set the days: whole items many at a time, the horizon's own day hour by hour."""
        last, items = self.horizon // DAY_HOURS, []
        for (entity, key, day), hours in groupby(rows, lambda row: (row.entity, row.key, row.hour // DAY_HOURS)):
            place, counters = day_key(entity, key, day), _counters(hours)
            if day >= last:
                yield self._set_hours, (place, counters)
                continue
            items.append(place | counters | self._stamp())
            if len(items) == WRITTEN_AT_ONCE:
                yield self._put, (items,)
                items = []
        if items:
            yield self._put, (items,)

    def _stamp(self) -> Item:
        stamp = {"refresh": self.number, "until": self.horizon}
        return {name: number(value) for name, value in stamp.items()} | {"expires": self.store.counters_expiry()}

    def _put(self, items: list[Item]) -> None:
        self.calls.put_all(items, self._ends())

    def _set_hours(self, place: Item, counters: Item) -> None:
        """Set the hours before the horizon, and leave those after it to the API."""
        given = counters | self._stamp()
        before = range(self.horizon % DAY_HOURS)
        gone = [name for hour in before for name in (f"{kind}{hour}" for kind in "nsqfg") if name not in given]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in given)
        if gone:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        update = self.calls.update(place, expression, {f":{name}": value for name, value in given.items()})
        self.calls.call("update_item", self._ends(), **update)


def _counters(hours: Iterable[Bucket]) -> Item:
    counters: Item = {}
    for row in hours:
        within = row.hour % DAY_HOURS
        counters |= {f"{name}{within}": number(getattr(row, name)) for name in "nsqfg"}
    return counters


def _in_order(db: sqlite3.Connection, buckets: Iterable[Sequence[Bucket]]) -> Iterator[Bucket]:
    """The buckets by entity, key and hour. They may be more than memory holds."""
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE buckets (entity INTEGER, key TEXT, hour INTEGER, n TEXT, s TEXT, q TEXT, f TEXT, g TEXT)")
    for batch in buckets:
        db.executemany("INSERT INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", batch)
    found = db.execute("SELECT * FROM buckets ORDER BY entity, key, hour")
    return (Bucket(entity, key, hour, *map(int, sums)) for entity, key, hour, *sums in found)


def _frauds_items(known: Iterable[str]) -> list[Item]:
    """The items that say which ids the data holds as frauds."""
    marks: list[list[str]] = [[] for _ in range(FRAUD_SHARDS)]
    for transaction_id in known:
        shard, mark = fraud_mark(transaction_id)
        marks[shard].append(mark)
    return [frauds_key(shard) | ({"ids": {"SS": ids}} if ids else {}) for shard, ids in enumerate(marks)]


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        yield rows[start : start + WRITTEN_AT_ONCE]


def _overtaken() -> BadInput:
    return BadInput(
        "another run began to bring the online store up to date before this one was through; "
        "run again, one run at a time"
    )


def _all(pool: ThreadPoolExecutor, calls: Iterable[tuple[Any, tuple[Any, ...]]]) -> None:
    """Make all calls, some at a time; the first failure is raised."""
    running: set[Future[Any]] = set()
    for call, arguments in calls:
        running.add(pool.submit(call, *arguments))
        if len(running) >= 4 * THREADS:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    for future in running:
        future.result()
