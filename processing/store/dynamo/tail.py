"""A refresh in DynamoDB from its horizon on, where the API and the refresh count events one by one.

The item of an id says in which era its event is counted, and whether that is the decided event or that of the tables.
The item and the counters change in one transaction, on the condition that the item is as it was read. If it is not, it
is read again.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from processing.features.windows import HOUR_US
from processing.store.decisions import Event
from processing.store.dynamo.attributes import digest_of, event_of, integer, number, unchanged
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import FACTS, Item, address, decision_key
from processing.store.dynamo.table import Table

STATE = ("recorded", "tail", "era", "displaced", "is_fraud")  # attributes of an id's item on which its changes depend


class Overtaken(Exception):
    """Another refresh began before this one had finished."""


class Tail:
    """The events from the horizon of a refresh on. `facts` are those that apply when it is done.

    Pass at most as many events as one BatchGetItem takes. Every call raises Overtaken.
    """

    def __init__(self, table: Table, facts: Facts, ends: Callable[[], float]) -> None:
        self.table, self.calls, self.facts, self._ends = table, table.calls, facts, ends

    def displace(self, ids: Sequence[str]) -> None:
        """Stop counting decisions, as the tables have other transactions under their ids."""
        for key, item in self._items(ids).items():
            if "recorded" in item and "displaced" not in item:
                self._apply(key, item, self._displace_changes)

    def count(self, events: Sequence[Event]) -> None:
        """Count events of the tables that are not counted yet, instead of other decided events of their ids."""
        by_id = {event.transaction_id: event for event in events}
        for key, item in self._items(list(by_id)).items():
            event = by_id[key]
            self._apply(key, item, partial(self._count_changes, event))

    def catch_up(self, ids: Sequence[str]) -> None:
        """Count decisions of the previous era in this one, unless they no longer count."""
        for key, item in self._items(ids).items():
            if "recorded" in item:
                self._apply(key, item, self._catch_up_changes)

    def label(self, events: Sequence[Event], known: Collection[Event]) -> None:
        """Count events as the tables label them: a refresh does not set their counters."""
        items = self._items([event.transaction_id for event in events])
        for event in events:
            self.relabel(event, items[event.transaction_id], event in known, False)

    def relabel(self, event: Event, item: Item, label: bool, in_data: bool) -> None:
        """Count an event as fraud or as legitimate. `in_data` is what its counters hold if the refresh has set them."""
        facts, before = self.facts, in_data
        if "counted" in item and (integer(item, "basis", -1) == facts.refresh or event.hour >= facts.horizon):
            before = item["counted"]["BOOL"]
        if label == before:
            return
        values = {":label": {"BOOL": label}, ":number": number(facts.refresh)}
        own = self.calls.update(decision_key(event.transaction_id), "SET #counted = :label, #basis = :number", values)
        changes = [{"Update": own}, *self.table.fraud_updates(event, int(label) - int(before), facts.era)]
        changes.append(self.calls.check(FACTS, "#refresh = :number", {":number": number(facts.refresh)}))
        try:
            self.calls.call("transact_write_items", self._ends(), TransactItems=changes)
        except Refused:
            raise Overtaken from None

    def _items(self, ids: Sequence[str]) -> dict[str, Item]:
        items = self.calls.get([decision_key(key) for key in ids], self._ends())
        return {key: items.get(address(decision_key(key)), {}) for key in ids}

    def _apply(self, key: str, item: Item, changes_of: Callable[[Item], list[Item]]) -> None:
        """Make the changes that an id's item needs, itself the first of them, and repeat until it needs none."""
        ends, attempt = self._ends(), 0
        while changes := changes_of(item):
            try:
                self.calls.call("transact_write_items", ends, TransactItems=[{"Update": each} for each in changes])
            except Refused as refused:
                if 0 not in refused.items:  # a day's item, which a later refresh has set
                    raise Overtaken from None
                self.calls.pause(attempt, ends, None)
                attempt += 1
            item = self._items([key])[key]

    def _displace_changes(self, item: Item) -> list[Item]:
        if "displaced" in item:
            return []
        event, was_counted = event_of(item), self._counts(item)
        own = self._own(event, item, "SET #displaced = :yes REMOVE #counted, #basis", {":yes": {"BOOL": True}})
        if not was_counted:
            return [own]
        frauds = -1 if "counted" in item and item["counted"]["BOOL"] else 0
        return [own, *self.table.count_updates(event, self.facts.era, by=-1, frauds=frauds)]

    def _count_changes(self, event: Event, item: Item) -> list[Item]:
        standing = "recorded" in item and "displaced" not in item
        if standing and event_of(item) != event:
            return self._displace_changes(item)
        if (standing or self._has_tail(item)) and integer(item, "era") == self.facts.era:
            return []
        setting = "#tail = :tail, #content = :content, #expires = if_not_exists(#expires, :end)"
        values = {":tail": number(event.hour), ":content": {"S": digest_of(event)}}
        values |= {":end": self.table.counters_expiry()}
        counted = f"SET {setting}, #era = :era, #counted = :label, #basis = :number"
        own = self._own(event, item, counted, values | self._as_counted(False))
        return [own, *self.table.count_updates(event, self.facts.era)]

    def _catch_up_changes(self, item: Item) -> list[Item]:
        event, facts = event_of(item), self.facts
        elsewhere = "displaced" in item or self._has_tail(item) or event.hour < facts.horizon
        if elsewhere or integer(item, "era") == facts.era:
            return []
        label = "is_fraud" in item and item["is_fraud"]["BOOL"]
        counted = "SET #era = :era, #counted = :label, #basis = :number"
        own = self._own(event, item, counted, self._as_counted(label))
        return [own, *self.table.count_updates(event, facts.era, frauds=int(label))]

    def _own(self, event: Event, item: Item, setting: str, values: Item) -> Item:
        condition, seen = unchanged(item, STATE)
        return self.calls.update(decision_key(event.transaction_id), setting, values | seen, condition)

    def _as_counted(self, label: bool) -> Item:
        facts = self.facts
        return {":era": number(facts.era), ":label": {"BOOL": label}, ":number": number(facts.refresh)}

    def _counts(self, item: Item) -> bool:
        """Whether a decided event is counted from the horizon on."""
        live = integer(item, "time_us") // HOUR_US >= self.facts.horizon
        return live and integer(item, "era") == self.facts.era

    def _has_tail(self, item: Item) -> bool:
        """Whether the event of this id in the tables is counted from the horizon on."""
        return "tail" in item and integer(item, "tail") >= self.facts.horizon
