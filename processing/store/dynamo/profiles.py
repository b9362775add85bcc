"""Read the profiles of keys, count a transaction in them, and fold the shards of busy keys."""

import random
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from processing.store.dynamo.attributes import integer
from processing.store.dynamo.calls import Calls, Refused
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import SHARDS, Item, address, profile_key, shard_key
from processing.store.dynamo.profile_items import Held, ProfileWriter, folded_in, profile_in, shard_in
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Counted, Profile

Name = tuple[str, str]  # an entity's name and a key

PROFILES_KEPT, SHARDS_KEPT = 100, 20_000  # in memory, unpacked
KEPT_SECONDS = 600.0  # much less than the time to live of shards
FOLDED_BYTES = 1_500  # of the profile in a shard: a larger one is folded when its turn comes
FOLD_SECONDS_PER_BYTE = 1 / 50_000  # between folds of a key: they use 100 of its partition's 1000 units a second
KEYS_TO_FOLD = 10  # that are remembered
TRIES = 5  # of reading an item again that was folded at this moment


class _Main(NamedTuple):
    """The item `profile` of a busy key, kept in memory."""

    item: Item
    profile: Profile
    whole: int  # `facts.whole` at that time
    until: float


class Profiles:
    """The profiles in a table. `facts` are those that were read last. Safe for threads."""

    facts: Facts

    def __init__(self, calls: Calls, plan: ProfilePlan) -> None:
        self.calls, self.plan = calls, plan
        self.writer = ProfileWriter(calls, plan.longest_us)
        self._mains: OrderedDict[Name, _Main] = OrderedDict()
        self._shards: OrderedDict[tuple[str, str], tuple[tuple[int, int, int], Profile]] = OrderedDict()
        self._to_fold: OrderedDict[Name, list[int]] = OrderedDict()
        self._lock = Lock()

    def read(
        self, names: Sequence[Name], ends: float, others: Iterable[Item] = (), *, shards: Collection[int] | None = None
    ) -> tuple[list[Held], dict[tuple[str, str], Item]]:
        """The profiles of these keys, and the items with the keys `others` by their addresses, in one call.

        shards: those of busy keys to read, by default all. The items of busy keys may come from memory then: the
            shards tell whether they are still current. If they are not, it takes one more call.
        """
        keys, mains = list(others), {}
        for entity, key in names:
            if entity not in self.plan.busy:
                keys.append(profile_key(entity, key))
                continue
            keys += [shard_key(entity, key, number) for number in (range(SHARDS) if shards is None else shards)]
            if shards is None and (main := self._kept(entity, key)):
                mains[entity, key] = main
            else:
                keys.append(profile_key(entity, key))
        items = self.calls.get(keys, ends)
        return [self._held(name, mains.get(name), items, ends, shards) for name in names], items

    def held(self, entity: str, key: str, item: Item) -> Held:
        """What the item of a key that is not busy holds."""
        layout = self.plan.layouts[entity]
        profile = profile_in(layout, item, self.facts)
        return Held(layout, key, item, profile, parts=[profile])

    def own(self, held: Held) -> Profile:
        """The profile, to change it."""
        return profile_in(held.layout, held.item, self.facts) if held.shards else held.profile

    def write(self, held: Held, profile: Profile, shards: Collection[int] = (), **stamps: int) -> list[Item]:
        """The changes that write a changed profile. Of a busy key a shard is folded with it, or several: `shards`."""
        stamps = {"refresh": max(integer(held.item, "refresh"), self.facts.whole)} | stamps
        if not held.shards:
            return [self.writer.put(held, profile, **stamps)]
        return self.writer.fold(held, profile, shards or [min(held.shards)], **stamps)

    def fold(self, held: Held, profile: Profile, **stamps: int) -> list[Item]:
        """The changes that write a changed profile. Of a busy key a shard is absorbed into it."""
        if not held.shards:
            return self.write(held, profile, (), **stamps)
        shard = random.choice(held.current() or list(held.shards))
        profile.absorb(shard_in(held.layout, held.shards[shard], profile.horizon_us))
        return self.write(held, profile, [shard], **stamps)

    def renewed(self, held: Held, shard: int | None, item: Item, ends: float) -> Held:
        """What is held now that an item, of the profile or of that shard, has turned out to be another one."""
        if not held.shards:
            return self.held(held.layout.entity, held.key, item)
        if shard is not None and item and integer(item, "emptied") == held.folded[shard]:
            return replace(held, shards={**held.shards, shard: item})
        (again,), _ = self.read([(held.layout.entity, held.key)], ends)
        return again

    def tidy(self, ends: float) -> None:
        """Fold a shard of a busy key that was read lately and has a large one."""
        with self._lock:
            if not self._to_fold:
                return
            name, shards = self._to_fold.popitem()
        shard = random.choice(shards)
        (held,), _ = self.read([name], ends, shards=[shard])
        size = len(held.item["data"]["B"]) if held.item else 0
        if time.time() - integer(held.item, "changed") >= size * FOLD_SECONDS_PER_BYTE and held.current():
            profile = self.own(held)
            changes = self.fold(held, profile)
            try:
                self.calls.transact(changes, ends)
            except Refused:
                return  # it was changed at this moment; another time

    def _kept(self, entity: str, key: str) -> _Main | None:
        main = self._mains.get((entity, key))
        current = main is not None and main.until > time.monotonic() and main.whole == self.facts.whole
        return main if current else None

    def _keep(self, entity: str, key: str, item: Item) -> _Main:
        profile = profile_in(self.plan.layouts[entity], item, self.facts)
        main = _Main(item, profile, self.facts.whole, time.monotonic() + KEPT_SECONDS)
        with self._lock:
            if item:  # without one there is nothing to keep
                self._mains[entity, key] = main
                self._mains.move_to_end((entity, key))
            while len(self._mains) > PROFILES_KEPT:
                self._mains.popitem(last=False)
        return main

    def _held(
        self,
        name: Name,
        main: _Main | None,
        items: Mapping[tuple[str, str], Item],
        ends: float,
        chosen: Collection[int] | None,
    ) -> Held:
        (entity, key), own = name, profile_key(*name)
        if entity not in self.plan.busy:
            return self.held(entity, key, items.get(address(own), {}))
        numbers = range(SHARDS) if chosen is None else chosen
        shards = {number: items.get(address(shard_key(entity, key, number)), {}) for number in numbers}
        main = main or self._keep(entity, key, items.get(address(own), {}))
        for _ in range(TRIES):
            folded = folded_in(main.item)
            if all(integer(item, "emptied") <= folded[number] for number, item in shards.items()):
                break
            main = self._keep(entity, key, self.calls.get([own], ends).get(address(own), {}))
        held = Held(self.plan.layouts[entity], key, main.item, main.profile, shards)
        current = [number for number in held.current() if shards[number]]
        held.parts.extend([main.profile, *(self._shard(held, number) for number in current)])
        large = [number for number in current if len(shards[number]["data"]["B"]) > FOLDED_BYTES]
        if large:
            with self._lock:
                self._to_fold[entity, key] = large
                while len(self._to_fold) > KEYS_TO_FOLD:
                    self._to_fold.popitem(last=False)
        return held

    def _shard(self, held: Held, number: int) -> Profile:
        """What a shard holds, unpacked once as long as it stays the same."""
        item, horizon_us = held.shards[number], held.profile.horizon_us
        place, state = address(item), (integer(item, "version"), integer(item, "expires"), horizon_us)
        known = self._shards.get(place)
        if known and known[0] == state:
            return known[1]
        profile = shard_in(held.layout, item, horizon_us)
        with self._lock:
            self._shards[place] = state, profile
            while len(self._shards) > SHARDS_KEPT:
                self._shards.popitem(last=False)
        return profile


class Counting:
    """The changes that count a transaction in all its profiles.

    A change stays the same until its item turns out to have changed. A busy key counts it in one of its shards.
    """

    def __init__(self, profiles: Profiles, events: Sequence[Counted], held: Sequence[Held], now_us: int) -> None:
        self._profiles, self._events, self._held, self._now_us = profiles, events, list(held), now_us
        self._changes: list[list[Item]] = [[] for _ in events]
        self._shards: list[int | None] = [None] * len(events)
        self.places: dict[str, tuple[int, int]] = {}  # shard and version by busy entity, where it is counted
        for index in range(len(events)):
            self._count(index)

    @property
    def changes(self) -> list[Item]:
        """All changes."""
        return [change for changes in self._changes for change in changes]

    def renew(self, refused: Mapping[int, Item], ends: float) -> None:
        """Count again in the items that have changed, by the index of the change. If there are none, then two
        transactions were in each other's way: use other shards."""
        owners = [index for index, changes in enumerate(self._changes) for _ in changes]
        again = {owners[place]: item for place, item in refused.items()}
        for index, item in again.items():
            self._held[index] = self._profiles.renewed(self._held[index], self._shards[index], item, ends)
            self._count(index)
        if not refused:
            for index, held in enumerate(self._held):
                if held.shards:
                    self._count(index)

    def _count(self, index: int) -> None:
        event, held = self._events[index], self._held[index]
        shard = random.choice(held.current() or list(held.shards)) if held.shards else None
        if shard is None or not held.item:  # the first of a busy key creates the item of its profile
            profile = self._profiles.own(held)
            profile.count(event)
            profile.prune(min(self._now_us, event.time_us))
            self._changes[index], self._shards[index] = self._profiles.fold(held, profile), None
            self.places.pop(event.entity, None)
            return
        profile = shard_in(held.layout, held.shards[shard])
        is_counted = event.time_us >= held.profile.horizon_us and profile.count(event)
        profile.prune(min(self._now_us, event.time_us))
        change = self._profiles.writer.put_shard(held, shard, profile)
        self._changes[index], self._shards[index] = [change], shard
        self.places.pop(event.entity, None)
        if is_counted:
            self.places[event.entity] = shard, integer(change["Put"]["Item"], "version")


def names_of(events: Iterable[Counted]) -> list[Name]:
    """Whose profiles count a transaction."""
    return [(event.entity, event.key) for event in events]
