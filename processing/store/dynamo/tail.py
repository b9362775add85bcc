"""A refresh in DynamoDB, from its horizon on: there events are counted one by one, by the API and by the refresh.

The item of an id says in which era its event is counted, and whether that is the decided one or the data's. It changes
in one transaction with the counters, on the condition that it is as it was read; else it is read again.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from processing.features.windows import HOUR_US
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.items import (
    FACTS,
    Facts,
    Item,
    address,
    as_seen,
    content_of,
    decision_key,
    event_of,
    integer,
    number,
)
from processing.store.interface import Event

if TYPE_CHECKING:
    from processing.store.dynamo.store import DynamoStore

STATE = ("recorded", "tail", "era", "displaced", "is_fraud")  # of an id's item, what decides whether it is to change


class Overtaken(Exception):
    """Another refresh began before this one was through."""


class Tail:
    """The events from the horizon of a refresh on. `facts` are those that hold when it is done.

    Every call is made with at most as many events as one BatchGetItem takes, and raises Overtaken.
    """

    def __init__(self, store: "DynamoStore", facts: Facts, ends: Callable[[], float]) -> None:
        self.store, self.calls, self.facts, self._ends = store, store.calls, facts, ends

    def displace(self, ids: Sequence[str]) -> None:
        """Let decisions count no more, as the data has other transactions under their ids."""
        for key, item in self._items(ids).items():
            if "recorded" in item and "displaced" not in item:
                self._until_done(key, item, self._displaced)

    def count(self, events: Sequence[Event]) -> None:
        """Count events of the data, unless they were, in the place of other decided ones."""
        by_id = {event.transaction_id: event for event in events}
        for key, item in self._items(list(by_id)).items():
            event = by_id[key]
            self._until_done(key, item, partial(self._counted, event))

    def catch_up(self, ids: Sequence[str]) -> None:
        """Count decisions of an era before in this one, where they are to be counted."""
        for key, item in self._items(ids).items():
            if "recorded" in item:
                self._until_done(key, item, self._caught_up)

    def label(self, events: Sequence[Event], known: Collection[Event]) -> None:
        """Let events of the data count as the data labels them: their counters are not set anew."""
        items = self._items([event.transaction_id for event in events])
        for event in events:
            self.relabel(event, items[event.transaction_id], event in known, False)

    def relabel(self, event: Event, item: Item, label: bool, in_data: bool) -> None:
        """Count an event as a fraud or as none; `in_data`: what its counters hold, where the data has set them."""
        facts, before = self.facts, in_data
        if "counted" in item and (integer(item, "basis", -1) == facts.refresh or event.hour >= facts.horizon):
            before = item["counted"]["BOOL"]
        if label == before:
            return
        values = {":label": {"BOOL": label}, ":number": number(facts.refresh)}
        own = self.calls.update(decision_key(event.transaction_id), "SET #counted = :label, #basis = :number", values)
        changes = [{"Update": own}, *self.store.moving(event, int(label) - int(before), facts.era)]
        changes.append(self.calls.check(FACTS, "#refresh = :number", {":number": number(facts.refresh)}))
        try:
            self.calls.call("transact_write_items", self._ends(), TransactItems=changes)
        except Refused:
            raise Overtaken from None

    def _items(self, ids: Sequence[str]) -> dict[str, Item]:
        found = self.calls.get([decision_key(key) for key in ids], self._ends())
        return {key: found.get(address(decision_key(key)), {}) for key in ids}

    def _until_done(self, key: str, item: Item, attempt: Callable[[Item], list[Item]]) -> None:
        """Make the changes that `attempt` gives for an id's item, the first to change, until there are none."""
        ends, count = self._ends(), 0
        while changes := attempt(item):
            try:
                self.calls.call("transact_write_items", ends, TransactItems=[{"Update": each} for each in changes])
            except Refused as refused:
                if 0 not in refused.items:  # a day's item, which a later refresh has set
                    raise Overtaken from None
                self.calls.pause(count, ends, None)
                count += 1
            item = self._items([key])[key]

    def _displaced(self, item: Item) -> list[Item]:
        if "displaced" in item:
            return []
        event, was_counted = event_of(item), self._counts(item)
        own = self._own(event, item, "SET #displaced = :yes REMOVE #counted, #basis", {":yes": {"BOOL": True}})
        if not was_counted:
            return [own]
        frauds = -1 if "counted" in item and item["counted"]["BOOL"] else 0
        return [own, *self.store.counting(event, self.facts.era, by=-1, frauds=frauds)]

    def _counted(self, event: Event, item: Item) -> list[Item]:
        standing = "recorded" in item and "displaced" not in item
        if standing and event_of(item) != event:
            return self._displaced(item)
        if (standing or self._has_tail(item)) and integer(item, "era") == self.facts.era:
            return []
        setting = "#tail = :tail, #content = :content, #expires = if_not_exists(#expires, :end)"
        values = {":tail": number(event.hour), ":content": {"S": content_of(event)}}
        values |= {":end": self.store.counters_expiry()}
        counted = f"SET {setting}, #era = :era, #counted = :label, #basis = :number"
        own = self._own(event, item, counted, values | self._as_counted(False))
        return [own, *self.store.counting(event, self.facts.era)]

    def _caught_up(self, item: Item) -> list[Item]:
        event, facts = event_of(item), self.facts
        elsewhere = "displaced" in item or self._has_tail(item) or event.hour < facts.horizon
        if elsewhere or integer(item, "era") == facts.era:
            return []
        label = "is_fraud" in item and item["is_fraud"]["BOOL"]
        counted = "SET #era = :era, #counted = :label, #basis = :number"
        own = self._own(event, item, counted, self._as_counted(label))
        return [own, *self.store.counting(event, facts.era, frauds=int(label))]

    def _own(self, event: Event, item: Item, setting: str, values: Item) -> Item:
        unchanged, seen = as_seen(item, STATE)
        return self.calls.update(decision_key(event.transaction_id), setting, values | seen, unchanged)

    def _as_counted(self, label: bool) -> Item:
        facts = self.facts
        return {":era": number(facts.era), ":label": {"BOOL": label}, ":number": number(facts.refresh)}

    def _counts(self, item: Item) -> bool:
        """Whether a decided event is counted from the horizon on."""
        live = integer(item, "time_us") // HOUR_US >= self.facts.horizon
        return live and integer(item, "era") == self.facts.era

    def _has_tail(self, item: Item) -> bool:
        """Whether the data's event of this id was counted from the horizon on."""
        return "tail" in item and integer(item, "tail") >= self.facts.horizon
