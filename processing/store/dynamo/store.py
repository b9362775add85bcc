"""The online store of the cloud: one DynamoDB table, shared by any number of servers and the feature job.

See `processing.store.dynamo.layout` for the items. A decision takes two calls: one BatchGetItem reads everything that
its features need, one TransactWriteItems records it and counts its transaction, both or neither. If the same id is
decided twice at once, or a refresh begins in between, it takes one more. Wherever an index or a horizon may be seen
late, a condition on the items themselves decides.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime

from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features.entity_keys import EntityKeys
from processing.features.feature_set import FeatureSet
from processing.features.windows import HOUR_US, Windows
from processing.store.binding import FormerDigests, is_bound_to
from processing.store.decisions import Decision, Event
from processing.store.dynamo.attributes import decision_item, decision_of, digest_of, event_of, expiry, integer, number
from processing.store.dynamo.calls import Calls, Refused
from processing.store.dynamo.counters import keys_needed, state_of
from processing.store.dynamo.facts import Facts, new_facts
from processing.store.dynamo.layout import (
    COUNTER,
    FACTS,
    KEPT_DAYS,
    LAG_NS,
    SHARDS,
    Item,
    address,
    decision_key,
    feed_of,
)
from processing.store.dynamo.lists import entries_of
from processing.store.dynamo.lookup import walk
from processing.store.dynamo.refresh import Refresh
from processing.store.dynamo.reporting import report
from processing.store.dynamo.table import READ_SECONDS, Table
from processing.store.interface import OnlineStore, StoreBusy, StoreState
from processing.store.lookup import DecisionPage, Search, page_of
from processing.store.refresh_data import NOT_COMPARED, Bucket, Comparison, RecordedEvents, Report, Reports

NEW = "attribute_not_exists(#recorded)"


class DynamoStore(OnlineStore):
    """See OnlineStore. `timeout` in seconds limits every call except a refresh, which waits while it is throttled.

    Counters are kept as long as the contract's windows need them, or `lookback_hours` if that is longer. The latest
    decisions come from an index that lags by moments. Raises BadInput if the table belongs to another
    contract, and StoreUnavailable.
    """

    def __init__(
        self,
        table: str,
        contract: Contract,
        *,
        timeout: float = 2.0,
        former: FormerDigests = tuple,
        lookback_hours: int = 0,
    ) -> None:
        self.calls = Calls(table, timeout)
        self.table = Table(self.calls, EntityKeys(contract), max(contract.lookback_hours, lookback_hours))
        self.windows = list(FeatureSet(contract).windows.values())
        facts = self._create(contract)
        if facts.fingerprint != contract.fingerprint:
            self._bind(contract, facts, former)

    def _create(self, contract: Contract) -> Facts:
        """The facts of the table, created if it is new."""
        ends = self.calls.ends()
        try:
            return self.table.facts(ends)
        except NotFound:
            create = {"TableName": self.calls.table, "Item": new_facts(contract, time.time_ns())}
            with suppress(Refused):  # another process came first
                self.calls.call("put_item", ends, **create, ConditionExpression="attribute_not_exists(pk)")
            return self.table.facts(ends)

    def _bind(self, contract: Contract, facts: Facts, former: FormerDigests) -> None:
        """Bind a table that is empty, or that has only a digest, to the contract. BadInput for any other table."""
        empty = not facts.refresh and not self.decisions(1)
        if not (empty or is_bound_to(contract, facts.contract, facts.fingerprint, former)):
            raise BadInput(
                f"the online store (DynamoDB table {self.calls.table}) was made for another contract than "
                f"{contract.name!r} as it reads now; use the contract of this home, or set FRAUDLINE_ONLINE_TABLE to "
                "another table"
            )
        now = {":contract": {"S": contract.digest}, ":fingerprint": {"S": contract.fingerprint}}
        seen = {":seen": {"S": facts.contract}, ":refresh": number(facts.refresh)}
        change = self.calls.update(
            FACTS,
            "SET #contract = :contract, #fingerprint = :fingerprint",
            now | seen,
            "#contract = :seen AND #refresh = :refresh",
        )
        with suppress(Refused):  # another process came first, or a refresh began: checked below
            self.calls.call("update_item", self.calls.ends(), **change)
        if self.table.facts(self.calls.ends()).fingerprint != contract.fingerprint:
            raise StoreBusy(f"the online store (DynamoDB table {self.calls.table}) is being changed; try again")

    def recall(self, event: Event, windows: Sequence[Windows] | None = None) -> tuple[Decision | None, list[int]]:
        ends, own = self.calls.ends(), decision_key(event.transaction_id)
        windows = windows or self.windows
        while True:
            era = self.table.last_facts.era
            counters = keys_needed(windows, self.table.entity_keys, event, era)
            items = self.calls.get([FACTS, own, *counters], ends)
            self.table.last_facts = facts = Facts.of(items[address(FACTS)])
            if facts.era == era:
                break
        state = state_of(windows, self.table.entity_keys, event, items, facts)
        return decision_of(items.get(address(own))), state

    def record(self, decision: Decision) -> Decision:
        ends, recorded = self.calls.ends(), time.time_ns()
        event, facts = decision.event, self.table.last_facts  # as of `recall`; conditions catch what came later
        item = decision_item(decision, recorded) | {"expires": expiry(KEPT_DAYS), "era": number(facts.era)}
        key = decision_key(event.transaction_id)
        entries = [{"Put": {"TableName": self.calls.table, "Item": entry}} for entry in entries_of(item)]
        values = {f":{name}": value for name, value in item.items()}
        setting = {name: f"#{name} = :{name}" for name in item}
        tail: Item = {}
        if event.hour >= facts.horizon:
            uncounted = f"{NEW} AND (attribute_not_exists(#tail) OR #tail < :data)"
            data = {":data": number(facts.done_horizon)}
            own = self.calls.update(key, "SET " + ", ".join(setting.values()), values | data, uncounted)
            try:
                changes = [{"Update": update} for update in (own, *self.table.count_updates(event, facts.era))]
                self.calls.call("transact_write_items", ends, TransactItems=changes + entries)
                return decision
            except Refused as refused:
                tail = refused.items.get(0, {})
                standing = _standing(tail, decision, recorded)
                if standing:
                    return standing
        # Before the horizon only a run knows what the tables have. Events of the tail are counted already.
        setting["era"] = "#era = if_not_exists(#era, :era)"
        if tail.get("content", {"S": digest_of(event)})["S"] != digest_of(event):
            setting["displaced"], values[":displaced"] = "#displaced = :displaced", {"BOOL": True}
        try:
            plain = self.calls.update(key, "SET " + ", ".join(setting.values()), values, NEW)
            self.calls.call("transact_write_items", ends, TransactItems=[{"Update": plain}, *entries])
            return decision
        except Refused as refused:
            standing = _standing(refused.items[0], decision, recorded)
            assert standing is not None
            return standing

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        report(self.table, transaction_id, is_fraud)

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        ends, items = self.calls.ends(), []
        earliest = number(int(since.timestamp() * 1e9) if since else 0)
        for shard in range(SHARDS):
            items += self.calls.query(
                ends,
                limit,
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :earliest",
                ExpressionAttributeValues={":feed": {"S": feed_of(shard)}, ":earliest": earliest},
                ScanIndexForward=False,
            )
        items.sort(key=lambda item: integer(item, "recorded"), reverse=True)
        return [decision for item in items[:limit] if (decision := decision_of(item))]

    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> DecisionPage:
        with closing(walk(self.table, search, limit, after, newer=newer)) as rows:
            return page_of(rows, search, limit, newer=newer)

    def reports(self) -> Reports:
        ends = self.calls.ends(READ_SECONDS)
        numbered = self.table.reports(ends)
        newest = {item["id"]["S"]: item for _, item in numbered}
        eventless = [key for key, item in newest.items() if "keys" not in item]  # reported to an earlier version
        decisions = self.calls.get([decision_key(key) for key in eventless], ends)
        for key in eventless:
            label = {"is_fraud": newest[key]["is_fraud"]}
            newest[key] = newest[key] | decisions.get(address(decision_key(key)), {}) | label
        reports = {
            key: Report(event_of(item), item["is_fraud"]["BOOL"]) for key, item in newest.items() if "keys" in item
        }
        return Reports(reports, numbered[-1][0] if numbered else 0)

    def recorded_events(self, since_us: int) -> RecordedEvents:
        now = time.time_ns()
        pending = self.table.facts(self.calls.ends()).pending
        return RecordedEvents(self.table.recorded_batches(max(0, pending - LAG_NS), since_us), now)

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
        Refresh(self.table, horizon, comparison, labelled_us).run(buckets, tail, mark, frauds)
        self.table.facts(self.calls.ends())

    def state(self) -> StoreState:
        items = self.calls.get([FACTS, COUNTER], self.calls.ends())
        facts = Facts.of(items.get(address(FACTS), {"contract": {"S": ""}}))
        labelled = max(facts.labelled, integer(items.get(address(COUNTER), {}), "labelled"))
        return StoreState(facts.refresh > 0, facts.horizon * HOUR_US, labelled, None if facts.settled else facts.began)

    def close(self) -> None:
        self.calls.close()


def _standing(item: Item | None, decision: Decision, recorded: int) -> Decision | None:
    """The decision recorded first. That may be this one, by an attempt whose response was lost."""
    standing = decision_of(item)
    ours = standing == decision and item is not None and integer(item, "recorded") == recorded
    return decision if ours else standing
