"""The refresh of the online store in DynamoDB: the data's hours are set, while the API goes on."""

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from processing.errors import BadInput
from processing.features.windows import HOUR_US
from processing.storage.scratch import scratch_folder
from processing.store.dynamo.calls import WRITTEN_AT_ONCE, Refused
from processing.store.dynamo.items import (
    COUNTER,
    DAY_HOURS,
    FACTS,
    FRAUD_SHARDS,
    Facts,
    Item,
    address,
    content_of,
    day_key,
    decision_key,
    event_of,
    frauds_key,
    is_counted,
    number,
    shard_of,
)
from processing.store.dynamo.lookup import unlisted
from processing.store.dynamo.tail import Overtaken, Tail
from processing.store.interface import Bucket, Comparison, Event

if TYPE_CHECKING:
    from processing.store.dynamo.store import DynamoStore

Row = TypeVar("Row")

PATIENCE_SECONDS = 300.0  # for one call: a table on demand takes its time to grow
THREADS = 8
STRAY_SECONDS = 2.0  # that a decision may take which still counts in the era before


class Refresh:
    """One refresh, under a number of its own.

    First the horizon moves: from here on the API leaves the hours before it alone. Then the days are set; an item
    carries the refresh that set it, and `until` when, so that a decision still under way is refused by it. When all
    are set, the refresh is declared done, and what no refresh has set since counts no more: it is dropped unread,
    and removed by its time to live.

    When the horizon goes back, items hold hours after it that a refresh has set. All is then counted in a new era,
    with items of its own, which takes the place of the one before when the refresh is declared done.
    """

    def __init__(self, store: "DynamoStore", horizon: int, comparison: Comparison, labelled_us: int) -> None:
        self.store, self.calls = store, store.calls
        self.horizon, self.comparison, self.began = horizon, comparison, time.time_ns() // 1000
        seen = self._begin()
        self.new_era = horizon < max(seen.horizon, seen.done_horizon)
        number = seen.refresh + 1
        era = number if self.new_era else seen.era
        # As they will be when it is done:
        compared, labelled = (comparison.read, comparison.pending), max(seen.labelled, labelled_us)
        self.facts = Facts(
            seen.contract, horizon, number, number, horizon, era, *compared, self.began, labelled, seen.listed
        )
        self.tail = Tail(store, self.facts, self._ends)

    def _begin(self) -> Facts:
        """Move the horizon; the facts before."""
        ends, attempt = self._ends(), 0
        while True:
            seen = self.store.facts(ends)
            values = {
                ":horizon": number(self.horizon),
                ":refresh": number(seen.refresh + 1),
                ":seen": number(seen.refresh),
                ":began": number(self.began),
            }
            free = "attribute_not_exists(#refresh) OR #refresh = :seen"
            begin = self.calls.update(
                FACTS, "SET #horizon = :horizon, #refresh = :refresh, #began = :began", values, free
            )
            try:
                self.calls.call("update_item", ends, **begin)
                return seen
            except Refused:  # another refresh begins at the same moment
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def run(
        self, buckets: Iterable[Sequence[Bucket]], tail: Sequence[Event], mark: int, frauds: Collection[Event]
    ) -> None:
        """Count the tail, set the buckets, count what was reported since the data was read, and declare it done."""
        try:
            with ThreadPoolExecutor(THREADS) as pool, scratch_folder("refresh") as folder:
                displaced = list(self.comparison.displaced)
                _all(pool, ((self.tail.displace, (ids,)) for ids in _chunks(displaced)))
                _all(pool, ((self.tail.count, (events,)) for events in _chunks(tail)))
                with closing(sqlite3.connect(folder / "buckets.sqlite")) as db:
                    _all(pool, self._settings(_in_order(db, buckets)))
                _all(pool, ((self._put, (items,)) for items in _chunks(_frauds_items(frauds))))
                if self.new_era:
                    self._catch_up(pool)
                known = set(frauds)
                _all(pool, ((self.tail.label, (events, known)) for events in _chunks(tail)))
                attempt, ends = 0, self._ends()
                while not self._finish(mark, known):  # more was reported meanwhile
                    self.calls.pause(attempt, ends, None)
                    attempt += 1
                if self.new_era:  # decisions that came meanwhile were counted in the era before
                    time.sleep(min(self.calls.timeout, STRAY_SECONDS))
                    self._catch_up(pool)
                self._list(pool)
        except Overtaken:
            raise BadInput(
                "another run began to bring the online store up to date before this one was through; "
                "run again, one run at a time"
            ) from None

    def _ends(self) -> float:
        return self.calls.ends(PATIENCE_SECONDS)

    def _list(self, pool: ThreadPoolExecutor) -> None:
        """Put what servers of an earlier version wrote into the lists by which decisions are looked up."""
        now = time.time_ns()
        _all(pool, ((self._put, (items,)) for items in unlisted(self.store, self._ends)))
        listed = self.calls.update(FACTS, "SET #listed = :now", {":now": number(now)})
        self.calls.call("update_item", self._ends(), **listed)

    def _catch_up(self, pool: ThreadPoolExecutor) -> None:
        """Count in the new era what was decided from the horizon on."""
        for batch in self.store.recorded(self.horizon * HOUR_US).batches:
            _all(pool, ((self.tail.catch_up, (ids,)) for ids in _chunks([one.event.transaction_id for one in batch])))

    def _finish(self, mark: int, known: set[Event]) -> bool:
        """Count the reports newer than `mark`, and declare the refresh done; False if another report came."""
        ends = self._ends()
        found = self.calls.get([COUNTER], ends).get(address(COUNTER), {})
        newer = {item["id"]["S"]: item["is_fraud"]["BOOL"] for count, item in self.store.told(ends) if count > mark}
        for key, label in newer.items():
            place = decision_key(key)
            item = self.calls.get([place], ends)[address(place)]  # what is not decided cannot be reported
            event = event_of(item)
            if is_counted(item, self.facts, event in known):
                self.tail.relabel(event, item, label, event in known)
        names = ("done", "done_horizon", "era", "read", "pending", "labelled")
        values = {f":{name}": number(getattr(self.facts, name)) for name in names}
        done = "SET " + ", ".join(f"#{name} = :{name}" for name in names)
        declare = self.calls.update(FACTS, done, values, "#refresh = :done")
        still = self.calls.check(COUNTER, "attribute_not_exists(#next)", {})
        if found:
            still = self.calls.check(COUNTER, "#next = :next", {":next": found["next"]})
        try:
            self.calls.call("transact_write_items", ends, TransactItems=[{"Update": declare}, still])
        except Refused as refused:
            if 0 in refused.items:
                raise Overtaken from None
            return False
        return True

    def _settings(self, rows: Iterator[Bucket]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """The calls that set the days: whole items many at a time, the horizon's own day hour by hour."""
        last, items = self.horizon // DAY_HOURS, []
        for (entity, key, day), hours in groupby(rows, lambda row: (row.entity, row.key, row.hour // DAY_HOURS)):
            place, counters = day_key(entity, key, day, self.facts.era), _counters(hours)
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
        stamp = {"refresh": self.facts.refresh, "until": self.horizon}
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


def _frauds_items(frauds: Iterable[Event]) -> list[Item]:
    """The items that say which events the data holds as frauds."""
    digests: list[set[str]] = [set() for _ in range(FRAUD_SHARDS)]
    for event in frauds:
        digests[shard_of(event.transaction_id)].add(content_of(event))
    return [frauds_key(shard) | ({"ids": {"SS": sorted(ids)}} if ids else {}) for shard, ids in enumerate(digests)]


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        yield rows[start : start + WRITTEN_AT_ONCE]


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
