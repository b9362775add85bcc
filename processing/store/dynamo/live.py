"""The events from a refresh's horizon on that profiles should have counted, from the tables and the decisions."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from processing.store.decisions import Event
from processing.store.dynamo.attributes import decision_of, event_of, integer, place_of
from processing.store.dynamo.layout import LAG_NS, LISTS, Item, key_list, list_key
from processing.store.dynamo.profile_items import Held
from processing.store.dynamo.profiles import Name, names_of
from processing.store.dynamo.table import Table
from processing.store.profiles.profile import Counted


@dataclass
class Live:
    """The events of one key, and the shard and version in which each is counted if it is in one."""

    events: list[tuple[Counted, tuple[int, int] | None]] = field(default_factory=list)

    def in_item(self, held: Held, folded: Collection[int]) -> list[Counted]:
        """Those that belong into the item itself when the shards `folded`, as they were read, are folded into it."""
        versions = held.folded
        for shard in folded:
            versions[shard] = max(versions[shard], integer(held.shards[shard], "version"))
        return [event for event, place in self.events if place is None or place[1] <= versions[place[0]]]


class LiveEvents:
    """Finds them all at once by the index of decisions, which may lag, or those of one key as they are now.

    tail: the events of the tables from the horizon on
    displaced: ids of decisions that do not count
    """

    def __init__(
        self, table: Table, since_us: int, tail: Sequence[Event], displaced: Collection[str], ends: Callable[[], float]
    ) -> None:
        self.table, self._since_us, self._ends = table, since_us, ends
        self._tail = {event.transaction_id: event for event in tail}
        self._displaced = displaced
        self._first = max(0, table.last_facts.pending - LAG_NS)
        self._by_name: dict[Name, Live] = {}
        self._seen: set[str] = set()

    def read_all(self) -> None:
        """Find the events of all keys."""
        for key, item in self.table.items_of(self._tail, self._ends):
            self._add(self._tail[key], item)
        for item in self._decided(self._first):
            self._seen.add(item["id"]["S"])
            self._add(event_of(item), item)

    def missed(self, since_ns: int) -> set[Name]:
        """The keys of decisions, recorded since then, that were not found at first."""
        missed = (event_of(item) for item in self._decided(max(self._first, since_ns)))
        return {
            name
            for event in missed
            if event.transaction_id not in self._seen
            for name in names_of(self.table.plan.counted(event))
        }

    @property
    def names(self) -> Collection[Name]:
        """The keys that have events."""
        return self._by_name

    def known(self, name: Name) -> Live:
        """The events of a key, as they were found at first."""
        return self._by_name.get(name, Live())

    def current(self, name: Name, since_us: int) -> Live:
        """The events of a key from a time on, not after the horizon, as they are now."""
        ids = dict.fromkeys([*self._tail_ids.get(name, ()), *self._listed(name)])
        live = Live()
        for key, item in self.table.items_of(ids, self._ends):
            if event := self._tail.get(key) or self._standing(item, since_us):
                own = [each for each in self.table.plan.counted(event) if (each.entity, each.key) == name]
                live.events += [(each, place_of(item, each.entity, decided="row" not in item)) for each in own]
        return live

    @cached_property
    def _tail_ids(self) -> dict[Name, list[str]]:
        ids: dict[Name, list[str]] = {}
        for event in self._tail.values():
            for name in names_of(self.table.plan.counted(event)):
                ids.setdefault(name, []).append(event.transaction_id)
        return ids

    def _decided(self, first: int) -> Iterator[Item]:
        """Decisions that count from the horizon on and are not in the tables, by the index."""
        for page in self.table.feed(first):
            for item in page:
                key = item["id"]["S"]
                counts = "displaced" not in item and key not in self._displaced
                if counts and key not in self._tail and integer(item, "time_us") >= self._since_us:
                    yield item

    def _standing(self, item: Item, since_us: int) -> Event | None:
        decision = decision_of(item)
        counts = decision is not None and "displaced" not in item and decision.event.time_us >= since_us
        return decision.event if counts and decision else None

    def _add(self, event: Event, item: Item) -> None:
        for counted in self.table.plan.counted(event):
            live = self._by_name.setdefault((counted.entity, counted.key), Live())
            live.events.append((counted, place_of(item, counted.entity, decided="row" not in item)))

    def _listed(self, name: Name) -> Iterator[str]:
        """The ids of the decisions in the list of the first of a key's columns."""
        entity, key = name
        names = self.table.plan.key_names_of(entity)
        column = self.table.plan.contract.key_names.index(names[0])
        value = key if len(names) == 1 else json.loads(key)[0]
        for part in range(LISTS):
            values = {":pk": list_key(key_list(column, value), part, "")["pk"], ":first": {"S": f"{self._first:020}"}}
            for page in self.table.calls.pages(
                self._ends,
                KeyConditionExpression="pk = :pk AND sk >= :first",
                ExpressionAttributeValues=values,
                ConsistentRead=True,
            ):
                yield from (entry["id"]["S"] for entry in page)
