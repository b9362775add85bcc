"""The profiles of keys as items in DynamoDB: what was read of one, and the changes that write it."""

import time
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from processing.durations import HOUR_US
from processing.store.dynamo.attributes import expiry_at, integer, number, unchanged
from processing.store.dynamo.calls import Calls
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import SHARDS, Item, profile_key, shard_key
from processing.store.profiles.frauds import Frauds
from processing.store.profiles.layout import Layout
from processing.store.profiles.packing import pack, unpack
from processing.store.profiles.profile import Profile


@dataclass(frozen=True)
class Held:
    """The profile of one entity's key as it was read.

    item: the item of the profile; empty if there is none
    profile: what the item holds. Of a busy key others may share it, so do not change it.
    shards: of a busy key the items of the shards that were read, by their numbers; empty where there is none
    parts: `profile`, and what the shards that were read hold beside it
    """

    layout: Layout
    key: str
    item: Item
    profile: Profile
    shards: Mapping[int, Item] = field(default_factory=dict)
    parts: list[Profile] = field(default_factory=list)

    @property
    def folded(self) -> "array[int]":
        """The version of each shard that was folded into the item last; 0 if none was."""
        return folded_in(self.item)

    def current(self) -> list[int]:
        """The shards that were read and not folded into the item since: what they hold is not in it."""
        folded = self.folded
        return [n for n, item in self.shards.items() if not item or integer(item, "emptied") >= folded[n]]

    @property
    def read(self) -> int:
        """Up to when, in ns, the refresh that set the profile has read decisions."""
        return integer(self.item, "read")


def folded_in(item: Mapping[str, Any]) -> "array[int]":
    """See `Held.folded`."""
    return array("q", bytes(item["folded"]["B"])) if "folded" in item else array("q", [0] * SHARDS)


def profile_in(layout: Layout, item: Mapping[str, Any], facts: Facts) -> Profile:
    """The profile in an item; an empty one if there is none.

    If a refresh that set all profiles did not set this one, the tables have no transactions of its key any more.
    """
    if not item:
        return Profile(layout)
    profile = unpack(layout, bytes(item["data"]["B"]))
    if integer(item, "refresh") < facts.whole:
        reported = profile.frauds.reported.values()
        profile.settle(Profile(layout, max(profile.horizon_us, facts.whole_horizon * HOUR_US)))
        profile.frauds = Frauds(reported=[each for each in reported if each.time_us >= profile.horizon_us])
        if not profile.newest_us and "folded" not in item:
            profile.horizon_us = 0
    return profile


def shard_in(layout: Layout, item: Mapping[str, Any], horizon_us: int = 0) -> Profile:
    """The profile in a shard's item, of transactions from the horizon of the item `profile` on.

    A shard has no horizon itself: it keeps what it counted until it is folded, as the horizon may move on and back.
    """
    profile = unpack(layout, bytes(item["data"]["B"])) if item else Profile(layout)
    profile.settle(Profile(layout, horizon_us))
    return profile


class ProfileWriter:
    """Makes the changes that write profiles, each on the condition that its item is unchanged since it was read."""

    def __init__(self, calls: Calls, longest_us: int) -> None:
        self.calls, self._longest_us = calls, longest_us

    def put(self, held: Held, profile: Profile, **stamps: int) -> Item:
        """The change that writes a profile. `stamps`: `refresh` and `read`, or else they stay as they are.

        For a busy key use `fold`.
        """
        item = profile_key(held.layout.entity, held.key) | self._attributes(held.item, profile, stamps)
        return self._put(item, held.item)

    def put_shard(self, held: Held, shard: int, profile: Profile) -> Item:
        """The change that writes a shard that has counted further transactions."""
        emptied = integer(held.shards[shard], "emptied", held.folded[shard])
        return self._put_shard(held, shard, profile, emptied, self._next_version(held, shard))

    def fold(self, held: Held, profile: Profile, shards: Collection[int], **stamps: int) -> list[Item]:
        """The changes that write the profile of a busy key, and empty the shards that were folded into it."""
        folded, changes = held.folded, []
        for shard in shards:
            folded[shard] = self._next_version(held, shard)
            changes.append(self._put_shard(held, shard, Profile(held.layout), folded[shard], folded[shard]))
        item = profile_key(held.layout.entity, held.key) | self._attributes(held.item, profile, stamps)
        item |= {"folded": {"B": folded.tobytes()}, "changed": number(int(time.time()))}
        return [self._put(item, held.item), *changes]

    def _put_shard(self, held: Held, shard: int, profile: Profile, emptied: int, version: int) -> Item:
        item = shard_key(held.layout.entity, held.key, shard) | {
            "data": {"B": pack(profile)},
            "version": number(version),
            "emptied": number(emptied),
            "expires": self._expiry(profile),
        }
        return self._put(item, held.shards[shard])

    @staticmethod
    def _next_version(held: Held, shard: int) -> int:
        """One more than that of the item. One that its time to live deleted had at least the version folded last."""
        return max(integer(held.shards[shard], "version"), held.folded[shard]) + 1

    def _attributes(self, before: Item, profile: Profile, stamps: Mapping[str, int]) -> Item:
        kept = {name: before[name] for name in ("refresh", "read") if name in before}
        return kept | {
            **{name: number(value) for name, value in stamps.items()},
            "data": {"B": pack(profile)},
            "version": number(integer(before, "version") + 1),
            "expires": self._expiry(profile),
        }

    def _put(self, item: Item, before: Item) -> Item:
        condition, seen = unchanged(before, ["version"])
        return {"Put": self.calls.put(item, condition, seen)}

    def _expiry(self, profile: Profile) -> Item:
        return expiry_at((max(profile.newest_us, int(time.time() * 1e6)) + self._longest_us) // 1_000_000)
