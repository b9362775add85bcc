"""A refresh of the online store in DynamoDB: settle the profiles with the tables while the API goes on."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import Any, TypeVar

from processing.durations import HOUR_US
from processing.errors import BadInput
from processing.store.decisions import Event
from processing.store.dynamo.attributes import integer, number, place_of
from processing.store.dynamo.calls import WRITTEN_AT_ONCE, Refused
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.labels import Labels
from processing.store.dynamo.layout import FACTS, LAG_NS, PROGRESS, SHARDS, Item
from processing.store.dynamo.lists import missing_entries
from processing.store.dynamo.live import LiveEvents
from processing.store.dynamo.profile_items import Held
from processing.store.dynamo.profiles import Name, names_of
from processing.store.dynamo.table import Table
from processing.store.dynamo.tail import Tail
from processing.store.profiles.packing import pack, unpack
from processing.store.profiles.profile import Profile
from processing.store.refresh_data import Comparison, SettledProfile

Row = TypeVar("Row")

CALL_SECONDS = 300.0  # a table on demand takes its time to scale up
THREADS = 16
STRAY_SECONDS = 2.0  # how long a decision under way may still count in a profile as it was


class Overtaken(Exception):
    """Another refresh began before this one had finished."""


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
        self.table, self.calls, self.plan = table, table.calls, table.plan
        self.horizon_us, self.comparison = horizon * HOUR_US, comparison
        self.began, self.whole = time.time_ns(), whole
        before, self.anew = self._begin(horizon)
        self.number = before.refresh + 1
        self.done = {
            "done": number(self.number),
            "done_horizon": number(horizon),
            "pending": number(comparison.pending),
            "labelled": number(max(before.labelled, labelled_us)),
            "basis": {"S": basis},
            "plan": {"S": self.plan.digest},
        }
        if whole:
            self.done |= {"whole": number(self.number), "whole_horizon": number(horizon)}
        self.tail = Tail(table, self._ends)

    def _begin(self, horizon: int) -> tuple[Facts, bool]:
        """Note that a refresh begins; returns the facts from before, and whether it counts anew after the horizon."""
        ends, attempt = self._ends(), 0
        while True:
            before = self.table.facts(ends)
            anew = before.plan != self.plan.digest or horizon < max(before.horizon, before.done_horizon)
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
                _call_all(pool, ((self.tail.displace, (ids,)) for ids in _chunks(list(self.comparison.displaced))))
                _call_all(pool, ((self.tail.count, (events,)) for events in _chunks(tail)))
                displaced = {event.transaction_id: event for event in self.tail.displaced}
                self.live = LiveEvents(self.table, self.horizon_us, tail, displaced, self._ends)
                self.labels = Labels(self.table, self.horizon_us, tail, frauds, mark, self._ends)
                self.labels.catch_up()
                if self.anew:
                    self.live.read_all()
                # Their keys, and whether the profile may have counted them from the horizon on.
                self.displaced: dict[Name, bool] = {}
                for event in displaced.values():
                    for name in names_of(self.plan.counted(event)):
                        is_live = event.time_us >= self.horizon_us
                        self.displaced[name] = self.displaced.get(name, False) or is_live
                others = {*self.displaced, *self.labels.names, *self.live.names}
                _call_all(pool, ((self._settle, (batch,)) for batch in self._batches(profiles, others)))
                if self.whole:
                    empty = [self._empty(name) for name in others]
                    _call_all(pool, ((self._settle, (batch,)) for batch in _chunks(empty)))
                else:
                    _call_all(pool, ((self._relabel, (names,)) for names in _chunks(list(others))))
                if self.anew:
                    time.sleep(min(self.calls.timeout, STRAY_SECONDS))
                    strays = self.live.missed(self.began - LAG_NS)
                    _call_all(pool, ((self._count_anew, (name,)) for name in strays))
                self._complete_lists(pool)
                self._finish()
        except Overtaken:
            raise BadInput(
                "another run started to refresh the online store before this one had finished; run again, one run at "
                "a time"
            ) from None

    def _ends(self) -> float:
        return self.calls.ends(CALL_SECONDS)

    @staticmethod
    def _batches(profiles: Iterable[Sequence[SettledProfile]], others: set[Name]) -> Iterator[Sequence[SettledProfile]]:
        """The profiles in small batches. Removes their keys from `others`."""
        for chunk in chain.from_iterable(map(_chunks, profiles)):
            others.difference_update((each.entity, each.key) for each in chunk)
            yield chunk

    def _empty(self, name: Name) -> SettledProfile:
        return SettledProfile(*name, pack(Profile(self.plan.layouts[name[0]], self.horizon_us)))

    def _settle(self, settled: Sequence[SettledProfile]) -> None:
        """Set profiles. Those that were written at this moment are read again."""
        by_name = {(each.entity, each.key): each.data for each in settled}

        def change(name: Name, held: Held) -> list[Item]:
            if integer(held.item, "refresh") == self.number:
                return []  # by an attempt whose response was lost
            profile = self.table.profiles.own(held)
            known = unpack(held.layout, by_name[name])
            if self.displaced.get(name) or (profile.horizon_us > self.horizon_us and not self.anew):
                return self._anew(name, held, profile, known)
            if self.anew:
                chosen = [_any(held)] if held.shards else []
                profile.settle(known, self.live.known(name).in_item(held, chosen))
                return self._write(name, held, profile, chosen)
            profile.settle(known)
            self._label(name, profile)
            return self.table.profiles.fold(held, profile, **self._stamps)

        self._change_all(list(by_name), change)

    def _relabel(self, names: Sequence[Name]) -> None:
        """Apply the labels of transactions from the horizon on to profiles that stay as they are."""

        def change(name: Name, held: Held) -> list[Item]:
            profile = self.table.profiles.own(held)
            before = dict(profile.frauds.reported)
            self.labels.apply(name, profile, held.read, settled=False)
            return [] if profile.frauds.reported == before else self.table.profiles.fold(held, profile)

        self._change_all(names, change)

    def _count_anew(self, name: Name) -> None:
        """Count again what lies after the horizon of a profile that is set already."""

        def change(name: Name, held: Held) -> list[Item]:
            if integer(held.item, "refresh") != self.number:
                return []  # not set by this refresh, so its horizon has not changed
            profile = self.table.profiles.own(held)
            known = Profile(held.layout, profile.horizon_us)
            known.settled, known.frauds = profile.settled, profile.frauds
            return self._anew(name, held, profile, known)

        self._change_all([name], change)

    def _change_all(self, names: Sequence[Name], change: Callable[[Name, Held], list[Item]]) -> None:
        """Change profiles, each in a write of its own, on the condition that it is as it was read."""
        ends, attempt, left = self._ends(), 0, list(names)
        while left:
            held, _ = self.table.profiles.read(left, ends, shards=[random.randrange(SHARDS)])
            self.labels.catch_up()
            refused = []
            for name, each in zip(left, held, strict=True):
                if integer(each.item, "refresh") > self.number:
                    raise Overtaken
                try:
                    self._send(change(name, each), ends)
                except Refused:
                    refused.append(name)
            left = refused
            if left:
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def _send(self, changes: list[Item], ends: float) -> None:
        if len(changes) == 1:
            self.calls.call("put_item", ends, **changes[0]["Put"])
        elif changes:
            self.calls.transact(changes, ends)

    def _anew(self, name: Name, held: Held, profile: Profile, known: Profile) -> list[Item]:
        """The changes that set a profile, and count what lies after its horizon as the table has it now."""
        if not held.shards:
            profile.settle(known, self.live.current(name).in_item(held, []))
            return self._write(name, held, profile, [])
        # With the shards of displaced decisions, so that these are counted no more.
        keys = [event.transaction_id for event in self.tail.displaced if name in names_of(self.plan.counted(event))]
        places = [place_of(item, name[0], decided=True) for item in self.tail.items(keys).values()]
        chosen = {place[0] for place in places if place} or {_any(held)}
        (held,), _ = self.table.profiles.read([name], self._ends(), shards=chosen)
        profile = self.table.profiles.own(held)
        profile.settle(known, self.live.current(name).in_item(held, chosen))
        return self._write(name, held, profile, chosen)

    def _write(self, name: Name, held: Held, profile: Profile, shards: Collection[int]) -> list[Item]:
        self._label(name, profile)
        return self.table.profiles.write(held, profile, shards, **self._stamps)

    def _label(self, name: Name, profile: Profile) -> None:
        self.labels.apply(name, profile, self.comparison.read_up_to)
        profile.prune(self.horizon_us)

    @property
    def _stamps(self) -> dict[str, int]:
        return {"refresh": self.number, "read": self.comparison.read_up_to}

    def _complete_lists(self, pool: ThreadPoolExecutor) -> None:
        """Add what servers of an earlier version wrote to the lists by which decisions are searched."""
        now = time.time_ns()
        entries = missing_entries(self.table, self._ends)
        _call_all(pool, ((self.calls.put_all, (items, self._ends())) for items in entries))
        listed = self.calls.update(FACTS, "SET #listed = :now", {":now": number(now)})
        self.calls.call("update_item", self._ends(), **listed)

    def _finish(self) -> None:
        """Declare the refresh done."""
        setting = "SET " + ", ".join(f"#{name} = :{name}" for name in self.done)
        values = {f":{name}": value for name, value in self.done.items()}
        declare = self.calls.update(PROGRESS, setting, values, "#refresh = :done")
        try:
            self.calls.call("update_item", self._ends(), **declare)
        except Refused:
            raise Overtaken from None


def _any(held: Held) -> int:
    return random.choice(list(held.shards))


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
