"""Record a decision and count its transaction, in one transaction of DynamoDB."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from processing.store.decisions import Decision, Event
from processing.store.dynamo.attributes import decision_item, decision_of, event_of, expiry, integer, places_item
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.layout import KEPT_DAYS, Item, decision_key
from processing.store.dynamo.lists import entries_of
from processing.store.dynamo.profile_items import Held
from processing.store.dynamo.profiles import Counting, names_of
from processing.store.dynamo.table import Table
from processing.store.profiles.profile import Counted

NEW, NO_ROW = "attribute_not_exists(#recorded)", "attribute_not_exists(#row)"
REMEMBERED = 512  # events, between recalling and recording


class Recalled(NamedTuple):
    """The profiles of an event as they were read."""

    event: Event
    counted: list[Counted]
    held: list[Held]


class Recorder:
    """Records decisions. Safe for threads."""

    def __init__(self, table: Table) -> None:
        self.table, self.calls = table, table.calls
        self._recalled: OrderedDict[str, Recalled] = OrderedDict()
        self._lock = Lock()

    def remember(self, event: Event, counted: list[Counted], held: list[Held]) -> None:
        """Keep what was read of an event until its decision is recorded, so that it need not be read again."""
        with self._lock:
            self._recalled[event.transaction_id] = Recalled(event, counted, held)
            while len(self._recalled) > REMEMBERED:
                self._recalled.popitem(last=False)

    def record(self, decision: Decision) -> Decision:
        """See `OnlineStore.record`."""
        ends, recorded = self.calls.ends(), time.time_ns()
        item = decision_item(decision, recorded) | {"expires": expiry(KEPT_DAYS)}
        entries = [{"Put": self.calls.put(entry)} for entry in entries_of(item)]
        counting = self._counting(decision.event, ends)
        condition = f"{NEW} AND {NO_ROW}"
        while True:
            places = places_item("shards", counting.places)
            changes = [self._own(item | places, condition), *counting.changes, *entries]
            try:
                self.calls.transact(changes, ends)
                return decision
            except Refused as refused:
                before = refused.items.pop(0, {})
                if standing := _standing(before, decision, recorded):
                    return standing
                if "row" in before:
                    row = event_of(before["row"]["M"])
                    if row == decision.event or self._is_live(row, ends):
                        return self._record_only(decision, item, entries, row, ends)
                    condition = NEW  # a later refresh has it before its horizon: what that means the next run finds out
                counting.renew({place - 1: each for place, each in refused.items.items()}, ends)
                self.calls.pause_for(refused, ends)

    def _record_only(
        self, decision: Decision, item: Item, entries: Sequence[Item], row: Event, ends: float
    ) -> Decision:
        """Record a decision under whose id a refresh has counted the event of the tables."""
        displaced = {} if row == decision.event else {"displaced": {"BOOL": True}}
        while True:
            try:
                self.calls.transact([self._own(item | displaced, NEW), *entries], ends)
                return decision
            except Refused as refused:
                if standing := _standing(refused.items.get(0, {}), decision, integer(item, "recorded")):
                    return standing
                self.calls.pause_for(refused, ends)

    def _own(self, item: Item, condition: str) -> Item:
        """The change of an id's item that records its decision."""
        setting = "SET " + ", ".join(f"#{name} = :{name}" for name in item)
        values = {f":{name}": value for name, value in item.items()}
        return {"Update": self.calls.update(decision_key(item["id"]["S"]), setting, values, condition)}

    def _is_live(self, row: Event, ends: float) -> bool:
        """Whether one of its profiles counts an event of the tables one by one, from its horizon on."""
        held, _ = self.table.profiles.read(names_of(self.table.plan.counted(row)), ends)
        return any(row.time_us >= each.profile.horizon_us for each in held)

    def _counting(self, event: Event, ends: float) -> Counting:
        with self._lock:
            recalled = self._recalled.pop(event.transaction_id, None)
        if recalled is None or (recalled.event, recalled.event.extras) != (event, event.extras):
            counted = self.table.plan.counted(event)
            recalled = Recalled(event, counted, self.table.profiles.read(names_of(counted), ends)[0])
        return Counting(self.table.profiles, recalled.counted, recalled.held, int(time.time() * 1e6))


def _standing(item: Item, decision: Decision, recorded: int) -> Decision | None:
    """The decision recorded first. That may be this one, by an attempt whose response was lost."""
    standing = decision_of(item)
    return decision if standing == decision and integer(item, "recorded") == recorded else standing
