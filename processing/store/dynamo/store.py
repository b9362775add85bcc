"""The online store of the cloud: one DynamoDB table, shared by any number of servers and the feature job.

`processing.store.dynamo.items` has the layout. A decision takes two calls: one BatchGetItem reads all that its features
need, one TransactWriteItems records it and counts its transaction, both or neither. The same id decided twice at
once, or a refresh that begins in between, takes one call more. Where an index or a horizon may be seen late, a
condition on the items themselves decides.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime

import numpy as np

from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features.feature_set import FeatureSet
from processing.features.windows import DAY_US, HOUR_US, state_at
from processing.store.dynamo.calls import Calls, Refused
from processing.store.dynamo.items import (
    COUNTER,
    DAY_HOURS,
    FACTS,
    LAG_NS,
    REPORTS,
    SHARDS,
    SLOT_US,
    Facts,
    Item,
    address,
    as_seen,
    content_of,
    counted_as_fraud,
    day_key,
    decision_item,
    decision_key,
    decision_of,
    earlier_of,
    event_item,
    event_of,
    feed_of,
    frauds_key,
    hours_of,
    integer,
    is_counted,
    new_facts,
    number,
    report_key,
    shard_of,
    slot_key,
)
from processing.store.dynamo.lookup import entries_of, label_entry, rows
from processing.store.interface import (
    NOT_COMPARED,
    Bucket,
    Comparison,
    Decision,
    Event,
    Former,
    OnlineStore,
    Recorded,
    Recordings,
    Report,
    Reports,
    StoreBusy,
    StoreState,
    is_bound_to,
)
from processing.store.lookup import Page, Search, page_of

SPARE_DAYS = 30  # that counters are kept beyond the look-back, by the time of their last change
KEPT_DAYS = 400  # decisions and reports: longer than a cardholder may take to complain
NEW = "attribute_not_exists(#recorded)"


class DynamoStore(OnlineStore):
    """See OnlineStore. `timeout` in seconds bounds every call but those of a refresh, which waits out throttling.

    The latest decisions come from an index that follows within moments. Raises BadInput if the table holds the state
    of another contract, and StoreUnavailable.
    """

    def __init__(self, table: str, contract: Contract, *, timeout: float = 2.0, former: Former = tuple) -> None:
        self.calls = Calls(table, timeout)
        self.contract = contract
        self.windows = list(FeatureSet(contract).windows.values())
        self._facts = self._begun(contract)
        if self._facts.fingerprint != contract.fingerprint:
            self._bind(contract, former)

    def _bind(self, contract: Contract, former: Former) -> None:
        """Note the contract of a table that holds nothing yet, or none but its digest. BadInput for any other table."""
        kept = self._facts
        empty = not kept.refresh and not self.decisions(1)
        if not (empty or is_bound_to(contract, kept.contract, kept.fingerprint, former)):
            raise BadInput(
                f"the online store (DynamoDB table {self.calls.table}) was made for another contract than "
                f"{contract.name!r} as it reads now; use the contract of this home, or set FRAUDLINE_ONLINE_TABLE to "
                "another table"
            )
        now = {":contract": {"S": contract.digest}, ":fingerprint": {"S": contract.fingerprint}}
        seen = {":seen": {"S": kept.contract}, ":refresh": number(kept.refresh)}
        change = self.calls.update(
            FACTS,
            "SET #contract = :contract, #fingerprint = :fingerprint",
            now | seen,
            "#contract = :seen AND #refresh = :refresh",
        )
        with suppress(Refused):  # another process came first, or a refresh began: looked at below
            self.calls.call("update_item", self.calls.ends(), **change)
        if self.facts(self.calls.ends()).fingerprint != contract.fingerprint:
            raise StoreBusy(f"the online store (DynamoDB table {self.calls.table}) is being changed; try again")

    def _begun(self, contract: Contract) -> Facts:
        ends = self.calls.ends()
        try:
            return self.facts(ends)
        except NotFound:
            begin = {"TableName": self.calls.table, "Item": new_facts(contract, time.time_ns())}
            with suppress(Refused):  # another process came first
                self.calls.call("put_item", ends, **begin, ConditionExpression="attribute_not_exists(pk)")
            return self.facts(ends)

    def facts(self, ends: float) -> Facts:
        """How far the data reaches, as it stands now. Raises NotFound in a new table."""
        found = self.calls.get([FACTS], ends)
        if not found:
            raise NotFound(f"the table {self.calls.table} is new")
        self._facts = Facts.of(found[address(FACTS)])
        return self._facts

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        ends, own = self.calls.ends(), decision_key(event.transaction_id)
        while True:
            era = self._facts.era
            keys = [key for entity, value in enumerate(event.keys) for key in self._needed(entity, value, event, era)]
            found = self.calls.get([FACTS, own, *keys], ends)
            self._facts = facts = Facts.of(found[address(FACTS)])
            if facts.era == era:
                break
        state: list[int] = []
        for entity, key in enumerate(event.keys):
            state += self._state(entity, key, event, found, facts)
        return decision_of(found.get(address(own))), state

    def _days(self, entity: int, event: Event) -> range:
        """The days whose hours an event's windows need."""
        first = event.hour - self.windows[entity].lookback_hours
        return range(first // DAY_HOURS, (event.hour - 1) // DAY_HOURS + 1)

    def _slots(self, event: Event) -> list[int]:
        """The slots, by their begin, in which its hour had events before it."""
        return list(range(event.hour * HOUR_US, event.time_us, SLOT_US))

    def _needed(self, entity: int, key: str, event: Event, era: int) -> list[Item]:
        keys = [day_key(entity, key, day, era) for day in self._days(entity, event)]
        keys += [slot_key(entity, key, begin, era) for begin in self._slots(event)]
        return keys

    def _state(
        self, entity: int, key: str, event: Event, found: dict[tuple[str, str], Item], facts: Facts
    ) -> list[int]:
        windows, era = self.windows[entity], facts.era
        rows = [
            row
            for day in self._days(entity, event)
            if (item := found.get(address(day_key(entity, key, day, era))))
            for row in hours_of(day, item, facts)
            if event.hour - windows.lookback_hours <= row[0] < event.hour
        ]
        slots = [found.get(address(slot_key(entity, key, begin, era)), {}) for begin in self._slots(event)]
        earlier = earlier_of(slots, event) if event.hour >= facts.done_horizon else (0, 0, 0)
        return state_at(windows, event.hour, event.amount, np.array(rows, np.int64).reshape(-1, 6), earlier)

    def record(self, decision: Decision) -> Decision:
        ends, recorded = self.calls.ends(), time.time_ns()
        event, facts = decision.event, self._facts  # as `recall` saw them; the conditions catch what came later
        item = decision_item(decision, recorded) | {"expires": expiry(KEPT_DAYS), "era": number(facts.era)}
        key = decision_key(event.transaction_id)
        entries = [{"Put": {"TableName": self.calls.table, "Item": entry}} for entry in entries_of(item)]
        values = {f":{name}": value for name, value in item.items()}
        setting = {name: f"#{name} = :{name}" for name in item}
        tail: Item = {}
        if event.hour >= facts.horizon:
            untold = f"{NEW} AND (attribute_not_exists(#tail) OR #tail < :data)"
            data = {":data": number(facts.done_horizon)}
            own = self.calls.update(key, "SET " + ", ".join(setting.values()), values | data, untold)
            try:
                changes = [{"Update": update} for update in (own, *self.counting(event, facts.era))]
                self.calls.call("transact_write_items", ends, TransactItems=changes + entries)
                return decision
            except Refused as refused:
                tail = refused.items.get(0, {})
                standing = _standing(tail, decision, recorded)
                if standing:
                    return standing
        # Before the horizon only a run knows what the data has; what came with the data's tail is counted.
        setting["era"] = "#era = if_not_exists(#era, :era)"
        if tail.get("content", {"S": content_of(event)})["S"] != content_of(event):
            setting["displaced"], values[":displaced"] = "#displaced = :displaced", {"BOOL": True}
        try:
            plain = self.calls.update(key, "SET " + ", ".join(setting.values()), values, NEW)
            self.calls.call("transact_write_items", ends, TransactItems=[{"Update": plain}, *entries])
            return decision
        except Refused as refused:
            standing = _standing(refused.items[0], decision, recorded)
            assert standing is not None
            return standing

    def counting(self, event: Event, era: int, *, by: int = 1, frauds: int = 0) -> list[Item]:
        """The updates that count an event, or with `by` -1 take it back; refused where the data tells its hour by now.

        `frauds` more, by its amount, are counted with it.
        """
        within, moment = event.hour % DAY_HOURS, event.time_us % DAY_US
        sums = {":one": by, ":s": by * event.amount, ":q": by * event.amount * event.amount}
        values = {name: number(value) for name, value in sums.items()} | {":end": self.counters_expiry()}
        of_fraud = {":f": number(frauds), ":g": number(frauds * event.amount)} if frauds else {}
        updates = []
        for entity, key in enumerate(event.keys):
            for place, item in (
                (within, day_key(entity, key, event.time_us // DAY_US, era)),
                (moment, slot_key(entity, key, event.time_us, era)),
            ):
                add = f"SET #expires = :end ADD #n{place} :one, #s{place} :s, #q{place} :q"
                if item["sk"]["S"].startswith("hours"):
                    add += f", #f{place} :f, #g{place} :g" if frauds else ""
                    open_hour = "(attribute_not_exists(#until) OR #until <= :hour)"
                    more = of_fraud | {":hour": number(event.hour)}
                    updates.append(self.calls.update(item, add, values | more, open_hour))
                else:
                    updates.append(self.calls.update(item, add, values))
        return updates

    def counters_expiry(self) -> Item:
        """When counters that change now may go."""
        return expiry(-(-self.contract.lookback_hours // DAY_HOURS) + SPARE_DAYS)

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        ends, attempt = self.calls.ends(), 0
        key, shard = decision_key(transaction_id), shard_of(transaction_id)
        while True:
            found = self.calls.get([key, COUNTER, FACTS, frauds_key(shard)], ends)
            item = found.get(address(key), {})
            known = decision_of(item)
            if known is None:
                raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
            facts = Facts.of(found[address(FACTS)])
            in_data = content_of(known.event) in found.get(address(frauds_key(shard)), {}).get("ids", {}).get("SS", ())
            counter = found.get(address(COUNTER), {})
            reported = event_item(known.event) | {"is_fraud": {"BOOL": is_fraud}, "listed": {"BOOL": True}}
            changes = self._noting(reported, counter)
            told = {":refresh": number(facts.refresh), ":done": number(facts.done)}
            changes.append(self.calls.check(FACTS, "#refresh = :refresh AND #done = :done", told))
            setting = "SET #is_fraud = :label"
            values: Item = {":label": {"BOOL": is_fraud}}
            if facts.settled and is_counted(item, facts, in_data):  # else a refresh counts it
                counted = counted_as_fraud(item, facts, in_data)
                changes += self.moving(known.event, int(is_fraud) - int(counted), facts.era)
                setting += ", #counted = :label, #basis = :done"
                values[":done"] = number(facts.done)
            changes += self._relisting(item, is_fraud)
            unchanged, seen = as_seen(item, ("era", "displaced", "is_fraud"))
            changes.append({"Update": self.calls.update(key, setting, values | seen, unchanged)})
            try:
                self.calls.call("transact_write_items", ends, TransactItems=changes)
                return
            except Refused:  # another report came first, or a refresh began or ended
                self.calls.pause(attempt, ends, None)
                attempt += 1

    def _relisting(self, item: Item, label: bool) -> list[Item]:
        """The changes that take a decision into the list of a label, and out of that of the other."""
        if "expires" not in item:
            return []
        own = [{"Put": {"TableName": self.calls.table, "Item": label_entry(item, label)}}]
        if item.get("is_fraud", {"BOOL": label})["BOOL"] == label:
            return own
        before = label_entry(item, not label)
        key = {name: before[name] for name in ("pk", "sk")}
        return [*own, {"Delete": {"TableName": self.calls.table, "Key": key}}]

    def _noting(self, told: Item, counter: Item) -> list[Item]:
        """The changes that keep a report under its number, refused if that was taken meanwhile."""
        count = integer(counter, "next", 1)
        labelled = max(integer(counter, "labelled"), integer(told, "time_us"))
        numbers = {":this": number(count), ":next": number(count + 1), ":labelled": number(labelled)}
        free = "attribute_not_exists(#next) OR #next = :this"
        return [
            {"Update": self.calls.update(COUNTER, "SET #next = :next, #labelled = :labelled", numbers, free)},
            {"Put": {"TableName": self.calls.table, "Item": report_key(count) | told | {"expires": expiry(KEPT_DAYS)}}},
        ]

    def moving(self, event: Event, change: int, era: int) -> list[Item]:
        """The changes of an event's fraud counters by so many."""
        if not change:
            return []
        hour, amount = event.hour % DAY_HOURS, number(change * event.amount)
        values = {":change": number(change), ":amount": amount, ":end": self.counters_expiry()}
        add = f"SET #expires = :end ADD #f{hour} :change, #g{hour} :amount"
        return [
            {"Update": self.calls.update(day_key(entity, key, day, era), add, values)}
            for day in [event.time_us // DAY_US]
            for entity, key in enumerate(event.keys)
        ]

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        ends, found = self.calls.ends(), []
        earliest = number(int(since.timestamp() * 1e9) if since else 0)
        for shard in range(SHARDS):
            found += self.calls.query(
                ends,
                limit,
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :earliest",
                ExpressionAttributeValues={":feed": {"S": feed_of(shard)}, ":earliest": earliest},
                ScanIndexForward=False,
            )
        found.sort(key=lambda item: integer(item, "recorded"), reverse=True)
        return [made for item in found[:limit] if (made := decision_of(item))]

    @property
    def is_listed(self) -> bool:
        """Whether all decisions are in lists; False in a table of an earlier version, until the next run."""
        return self._facts.listed > 0

    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> Page:
        with closing(rows(self, search, limit, after, newer=newer)) as found:
            return page_of(found, search, limit, newer=newer)

    def reports(self) -> Reports:
        ends = self.calls.ends(60.0)  # many pages, and nobody waits at a till
        told = self.told(ends)
        newest = {item["id"]["S"]: item for _, item in told}
        without = [key for key, item in newest.items() if "keys" not in item]  # reported to an earlier version
        found = self.calls.get([decision_key(key) for key in without], ends)
        for key in without:
            newest[key] = (
                newest[key] | found.get(address(decision_key(key)), {}) | {"is_fraud": newest[key]["is_fraud"]}
            )
        reports = {
            key: Report(event_of(item), item["is_fraud"]["BOOL"]) for key, item in newest.items() if "keys" in item
        }
        return Reports(reports, told[-1][0] if told else 0)

    def told(self, ends: float) -> list[tuple[int, Item]]:
        """The items of all reports by their numbers."""
        items = self.calls.query(
            ends,
            KeyConditionExpression="pk = :reports",
            ExpressionAttributeValues={":reports": {"S": REPORTS}},
            ConsistentRead=True,
        )
        return [(int(item["sk"]["S"]), item) for item in items]

    def recorded(self, since_us: int) -> Recordings:
        read = time.time_ns()
        pending = self.facts(self.calls.ends()).pending
        return Recordings(self._recorded(max(0, pending - LAG_NS), since_us), read)

    def _recorded(self, first: int, since_us: int) -> Iterator[list[Recorded]]:
        for shard in range(SHARDS):
            pages = self.calls.pages(
                lambda: self.calls.ends(60.0),
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :first",
                ExpressionAttributeValues={":feed": {"S": feed_of(shard)}, ":first": number(first)},
                ExpressionAttributeNames={f"#{name}": name for name in ("id", "time_us", "amount", "keys", "recorded")},
                ProjectionExpression="#id, #time_us, #amount, #keys, #recorded",
            )
            for page in pages:
                events = ((integer(item, "recorded"), event_of(item)) for item in page)
                yield [Recorded(count, event) for count, event in events if event.time_us >= since_us]

    def refresh(
        self,
        horizon: int,
        buckets: Iterable[Sequence[Bucket]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
    ) -> None:
        from processing.store.dynamo.refresh import Refresh

        Refresh(self, horizon, comparison, labelled_us).run(buckets, tail, mark, frauds)
        self.facts(self.calls.ends())

    def state(self) -> StoreState:
        found = self.calls.get([FACTS, COUNTER], self.calls.ends())
        facts = Facts.of(found.get(address(FACTS), {"contract": {"S": ""}}))
        labelled = max(facts.labelled, integer(found.get(address(COUNTER), {}), "labelled"))
        return StoreState(facts.refresh > 0, facts.horizon * HOUR_US, labelled, None if facts.settled else facts.began)

    def close(self) -> None:
        self.calls.close()


def expiry(days: int) -> Item:
    """The time to live of an item that is kept for so many days."""
    return number(int(time.time()) + days * 86_400)


def _standing(item: Item | None, decision: Decision, recorded: int) -> Decision | None:
    """The decision recorded first; it may be this one, by an attempt whose answer was lost."""
    standing = decision_of(item)
    ours = standing == decision and item is not None and integer(item, "recorded") == recorded
    return decision if ours else standing
