"""Settle the profiles of keys in DynamoDB with the tables: one conditional write for each."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from processing.store.decisions import Event
from processing.store.dynamo.attributes import integer, place_of
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.labels import Labels
from processing.store.dynamo.layout import SHARDS, Item
from processing.store.dynamo.live import LiveEvents
from processing.store.dynamo.profile_items import Held
from processing.store.dynamo.profiles import Name, names_of
from processing.store.dynamo.table import Table
from processing.store.profiles.layout import Layout
from processing.store.profiles.packing import unpack
from processing.store.profiles.profile import Profile
from processing.store.refresh_data import SettledProfile

Change = Callable[[Name, Held], list[Item]]


class Overtaken(Exception):
    """Another refresh began before this one had finished."""


@dataclass(frozen=True)
class Settling:
    """What a refresh sets profiles to. Safe for threads; every call raises Overtaken.

    number: of the refresh
    horizon_us: transactions before it are settled
    read: up to when decisions were read, in ns
    anew: whether profiles count anew what lies after the horizon
    labels, live: what no settled profile has
    displaced: decided events that do not count, by their ids
    """

    table: Table
    number: int
    horizon_us: int
    read: int
    anew: bool
    labels: Labels
    live: LiveEvents
    displaced: Mapping[str, Event]
    ends: Callable[[], float]

    @cached_property
    def displaced_names(self) -> Mapping[Name, list[Event]]:
        """The keys of displaced decisions, with these."""
        found: dict[Name, list[Event]] = {}
        for event in self.displaced.values():
            for name in names_of(self.table.plan.counted(event)):
                found.setdefault(name, []).append(event)
        return found

    def settle(self, settled: Sequence[SettledProfile]) -> None:
        """Set profiles as the tables give them."""
        by_name = {(each.entity, each.key): each.data for each in settled}
        self._settle(list(by_name), lambda name, layout: unpack(layout, by_name[name]))

    def empty(self, names: Sequence[Name]) -> None:
        """Set profiles of keys with no transaction before the horizon."""
        self._settle(names, lambda name, layout: Profile(layout, self.horizon_us))

    def _settle(self, names: Sequence[Name], known_of: Callable[[Name, Layout], Profile]) -> None:
        nothing: dict[Name, None] = {}

        def change(name: Name, held: Held) -> list[Item]:
            known = known_of(name, held.layout)
            if not known.newest_us:
                nothing[name] = None
            if integer(held.item, "refresh") == self.number:
                return []  # by an attempt whose response was lost
            return self._settled(name, held, known)

        self._change_all(names, change)
        for name in nothing:
            self._forget(name)

    def relabel(self, names: Sequence[Name]) -> None:
        """Apply labels to profiles that stay as they are otherwise."""

        def change(name: Name, held: Held) -> list[Item]:
            profile = self.table.profiles.own(held)
            before = dict(profile.frauds.reported)
            self.labels.apply(name, profile, max(held.read, self.read), settled=False)
            return [] if profile.frauds.reported == before else self.table.profiles.fold(held, profile)

        self._change_all(names, change)

    def count_anew(self, name: Name) -> None:
        """Count again what lies after the horizon of a profile that this refresh has set."""

        def change(name: Name, held: Held) -> list[Item]:
            if integer(held.item, "refresh") != self.number:
                return []
            profile = self.table.profiles.own(held)
            known = Profile(held.layout, profile.horizon_us)
            known.settled, known.frauds = profile.settled, profile.frauds
            return self._anew(name, held, profile, known)

        self._change_all([name], change)

    def _settled(self, name: Name, held: Held, known: Profile) -> list[Item]:
        profile = self.table.profiles.own(held)
        moved_back = profile.horizon_us > self.horizon_us and not self.anew
        displaced = self.displaced_names.get(name, ())
        # A shard keeps what lies before the horizon, too.
        if moved_back or any(held.shards or event.time_us >= self.horizon_us for event in displaced):
            return self._anew(name, held, profile, known)
        if not self.anew:
            profile.settle(known)
            self._label(name, profile)
            return self.table.profiles.fold(held, profile, refresh=self.number, read=self.read)
        shards = [random.choice(list(held.shards))] if held.shards else []
        profile.settle(known, self.live.known(name).in_item(held, shards))
        return self._write(name, held, profile, shards)

    def _anew(self, name: Name, held: Held, profile: Profile, known: Profile) -> list[Item]:
        """The changes that set a profile, and count what lies after its horizon as the table has it now."""
        shards: Collection[int] = []
        if held.shards:  # fold those of displaced decisions, so that these are counted no more
            ids = [event.transaction_id for event in self.displaced_names.get(name, ())]
            items = self.table.items_of(ids, self.ends)
            places = [place_of(item, name[0], decided=True) for _, item in items]
            shards = {place[0] for place in places if place} or {random.choice(list(held.shards))}
            (held,), _ = self.table.profiles.read([name], self.ends(), shards=shards)
            profile = self.table.profiles.own(held)
        profile.settle(known, self.live.current(name, known.horizon_us).in_item(held, shards))
        return self._write(name, held, profile, shards)

    def _write(self, name: Name, held: Held, profile: Profile, shards: Collection[int]) -> list[Item]:
        self._label(name, profile)
        return self.table.profiles.write(held, profile, shards, refresh=self.number, read=self.read)

    def _label(self, name: Name, profile: Profile) -> None:
        self.labels.apply(name, profile, self.read)
        profile.prune(self.horizon_us)

    def _forget(self, name: Name) -> None:
        """Forget the horizon of a profile, as if it had never been written, if it holds nothing."""
        ends = self.ends()
        (held,), _ = self.table.profiles.read([name], ends)
        if not any(part.newest_us for part in held.parts) and held.profile.horizon_us:
            profile = Profile(held.layout)
            profile.frauds = held.profile.frauds
            shards = [number for number, item in held.shards.items() if item]
            try:
                self._send(self.table.profiles.write(held, profile, shards), ends)
            except Refused:
                return  # a decision has been counted since

    def _change_all(self, names: Sequence[Name], change: Change) -> None:
        """Change profiles, each on the condition that it is as it was read. Reads those again that are not."""
        ends, left = self.ends(), list(names)
        while left:
            held, _ = self.table.profiles.read(left, ends, shards=[random.randrange(SHARDS)])
            self.labels.catch_up()
            refused: dict[Name, Refused] = {}
            for name, each in zip(left, held, strict=True):
                if integer(each.item, "refresh") > self.number:
                    raise Overtaken
                try:
                    self._send(change(name, each), ends)
                except Refused as error:
                    refused[name] = error
            left = list(refused)
            if left:
                self.table.calls.pause_for(refused[left[0]], ends)

    def _send(self, changes: Sequence[Item], ends: float) -> None:
        if len(changes) == 1:
            self.table.calls.call("put_item", ends, **changes[0]["Put"])
        elif changes:
            self.table.calls.transact(changes, ends)
