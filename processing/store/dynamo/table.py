"""The table of a store: the reads and changes that recording, reporting and refreshing share."""

from collections.abc import Iterator

from processing.errors import NotFound
from processing.features.entity_keys import EntityKeys
from processing.features.windows import DAY_US
from processing.store.decisions import Event
from processing.store.dynamo.attributes import event_of, expiry, integer, number
from processing.store.dynamo.calls import Calls
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import (
    DAY_HOURS,
    FACTS,
    REPORTS,
    SHARDS,
    SPARE_DAYS,
    Item,
    address,
    day_key,
    feed_of,
    slot_key,
)
from processing.store.refresh_data import RecordedEvent

READ_SECONDS = 60.0  # for many pages, which no payment waits for


class Table:
    """One table, reached by `calls`. `last_facts` are the facts as they were read last."""

    last_facts: Facts

    def __init__(self, calls: Calls, entity_keys: EntityKeys, lookback_hours: int) -> None:
        self.calls, self.name, self.entity_keys = calls, calls.table, entity_keys
        self._counter_days = -(-lookback_hours // DAY_HOURS) + SPARE_DAYS

    def facts(self, ends: float) -> Facts:
        """The facts as they are now. Raises NotFound in a new table."""
        items = self.calls.get([FACTS], ends)
        if not items:
            raise NotFound(f"the table {self.name} is new")
        self.last_facts = Facts.of(items[address(FACTS)])
        return self.last_facts

    def reports(self, ends: float) -> list[tuple[int, Item]]:
        """The items of all reports, by their numbers."""
        items = self.calls.query(
            ends,
            KeyConditionExpression="pk = :reports",
            ExpressionAttributeValues={":reports": {"S": REPORTS}},
            ConsistentRead=True,
        )
        return [(int(item["sk"]["S"]), item) for item in items]

    def recorded_batches(self, first: int, since_us: int) -> Iterator[list[RecordedEvent]]:
        """Events of `since_us` or later whose decisions were recorded at `first` (ns) or later."""
        for shard in range(SHARDS):
            pages = self.calls.pages(
                lambda: self.calls.ends(READ_SECONDS),
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :first",
                ExpressionAttributeValues={":feed": {"S": feed_of(shard)}, ":first": number(first)},
                ExpressionAttributeNames={f"#{name}": name for name in ("id", "time_us", "amount", "keys", "recorded")},
                ProjectionExpression="#id, #time_us, #amount, #keys, #recorded",
            )
            for page in pages:
                events = ((integer(item, "recorded"), event_of(item)) for item in page)
                yield [RecordedEvent(count, event) for count, event in events if event.time_us >= since_us]

    def count_updates(self, event: Event, era: int, *, by: int = 1, frauds: int = 0) -> list[Item]:
        """The updates that count an event, or with `by` -1 uncount it, and add so many `frauds` of its amount.

        They are refused if a refresh has set the event's hour meanwhile.
        """
        within, moment = event.hour % DAY_HOURS, event.time_us % DAY_US
        sums = {":one": by, ":s": by * event.amount, ":q": by * event.amount * event.amount}
        values = {name: number(value) for name, value in sums.items()} | {":end": self.counters_expiry()}
        of_fraud = {":f": number(frauds), ":g": number(frauds * event.amount)} if frauds else {}
        hours = f"SET #expires = :end ADD #n{within} :one, #s{within} :s, #q{within} :q"
        hours += f", #f{within} :f, #g{within} :g" if frauds else ""
        slot = f"SET #expires = :end ADD #n{moment} :one, #s{moment} :s, #q{moment} :q"
        open_hour = "(attribute_not_exists(#until) OR #until <= :hour)"
        in_hours = values | of_fraud | {":hour": number(event.hour)}
        updates = []
        for entity, key in enumerate(self.entity_keys.of(event.keys)):
            day = day_key(entity, key, event.time_us // DAY_US, era)
            updates.append(self.calls.update(day, hours, in_hours, open_hour))
            updates.append(self.calls.update(slot_key(entity, key, event.time_us, era), slot, values))
        return updates

    def fraud_updates(self, event: Event, change: int, era: int) -> list[Item]:
        """The changes that add `change` to an event's fraud counters."""
        if not change:
            return []
        hour, amount = event.hour % DAY_HOURS, number(change * event.amount)
        values = {":change": number(change), ":amount": amount, ":end": self.counters_expiry()}
        add = f"SET #expires = :end ADD #f{hour} :change, #g{hour} :amount"
        day = event.time_us // DAY_US
        return [
            {"Update": self.calls.update(day_key(entity, key, day, era), add, values)}
            for entity, key in enumerate(self.entity_keys.of(event.keys))
        ]

    def counters_expiry(self) -> Item:
        """When counters that change now may be deleted."""
        return expiry(self._counter_days)
