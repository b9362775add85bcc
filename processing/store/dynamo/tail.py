"""The events of the tables from the horizon of a refresh on, which the refresh counts one by one.

The item of an id says that the event of the tables is counted, and whether a decision under that id counts. It changes
in one transaction with the profiles, on the condition that it is as it was read. If it is not, it is read again.
"""

from collections.abc import Callable, Sequence

from processing.store.decisions import Event
from processing.store.dynamo.attributes import event_item, event_of, expiry, places_item, unchanged
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.layout import KEPT_DAYS, Item, decision_key
from processing.store.dynamo.profiles import Counting, names_of
from processing.store.dynamo.table import Table

STATE = ("recorded", "row", "displaced")  # attributes of an id's item on which its changes depend


class Tail:
    """Counts them. `displaced` are the events found displaced."""

    def __init__(self, table: Table, ends: Callable[[], float]) -> None:
        self.table, self.calls, self._ends = table, table.calls, ends
        self.displaced: list[Event] = []

    def displace(self, ids: Sequence[str]) -> None:
        """Note that decisions do not count, as the tables have other transactions under their ids."""
        for key, item in self.table.items_of(ids, self._ends):
            if "recorded" in item:
                mark = self.calls.update(decision_key(key), "SET #displaced = :yes", {":yes": {"BOOL": True}})
                self.calls.call("update_item", self._ends(), **mark)
                self.displaced.append(event_of(item))

    def count(self, events: Sequence[Event]) -> None:
        """Count events of the tables that are not counted yet, instead of other decided events of their ids."""
        items = dict(self.table.items_of([event.transaction_id for event in events], self._ends))
        for event in events:
            self._count(event, items[event.transaction_id])

    def _count(self, event: Event, item: Item) -> None:
        ends, profiles = self._ends(), self.table.profiles
        events = self.table.plan.counted(event)
        held, _ = profiles.read(names_of(events), ends)
        counting = Counting(profiles, events, held, event.time_us)
        while not self._is_counted(event, item):
            own = self._own(event, item, counting)
            try:
                self.calls.transact([{"Update": own}, *counting.changes], ends)
            except Refused as refused:
                self.calls.pause_for(refused, ends)
                counting.renew({place - 1: each for place, each in refused.items.items() if place}, ends)
                ((_, item),) = self.table.items_of([event.transaction_id], self._ends)
                continue
            if "recorded" in item:
                self.displaced.append(event_of(item))
            return

    @staticmethod
    def _is_counted(event: Event, item: Item) -> bool:
        if "row" in item:
            return True
        return "recorded" in item and "displaced" not in item and event_of(item) == event

    def _own(self, event: Event, item: Item, counting: Counting) -> Item:
        """The change of an id's item that goes with counting the event of the tables."""
        values: Item = {"row": {"M": event_item(event)}}
        values |= places_item("row_shards", counting.places)
        if "recorded" in item:
            values["displaced"] = {"BOOL": True}
        else:
            values["expires"] = expiry(KEPT_DAYS)
        condition, seen = unchanged(item, STATE)
        setting = "SET " + ", ".join(f"#{name} = :{name}" for name in values)
        values = {f":{name}": value for name, value in values.items()}
        return self.calls.update(decision_key(event.transaction_id), setting, values | seen, condition)
