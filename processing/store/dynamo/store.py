"""The online store of the cloud: one DynamoDB table, shared by any number of servers and the feature job.

See `processing.store.dynamo.layout` for the items. A decision takes two calls: one BatchGetItem reads the decision of
its id and the profiles of its entities, one TransactWriteItems records it and counts its transaction, both or neither.
Each profile is written on the condition that it is as it was read. If another decision of the same entity came in
between, it takes one more call.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime

from processing.contract import Contract
from processing.durations import HOUR_US
from processing.errors import BadInput, NotFound
from processing.features.state_plan import StatePlan
from processing.store.binding import FormerDigests, is_bound_to
from processing.store.decisions import Decision, Event
from processing.store.dynamo.attributes import (
    decision_of,
    event_of,
    integer,
    number,
)
from processing.store.dynamo.calls import Calls, Refused
from processing.store.dynamo.facts import Facts, new_facts
from processing.store.dynamo.layout import (
    COUNTER,
    FACTS,
    LAG_NS,
    LISTS,
    address,
    decision_key,
    feed_of,
)
from processing.store.dynamo.lookup import walk
from processing.store.dynamo.profiles import names_of
from processing.store.dynamo.recording import Recorder
from processing.store.dynamo.refresh import Refresh
from processing.store.dynamo.reporting import report
from processing.store.dynamo.table import READ_SECONDS, Table
from processing.store.interface import OnlineStore, StoreBusy, StoreState
from processing.store.lookup import DecisionPage, Search, page_of
from processing.store.profiles.plan import ProfilePlan
from processing.store.refresh_data import (
    NOT_COMPARED,
    Comparison,
    RecordedEvent,
    RecordedEvents,
    Report,
    Reports,
    SettledProfile,
)


class DynamoStore(OnlineStore):
    """See OnlineStore. `timeout` in seconds limits every call except a refresh, which waits while it is throttled.

    `others` are the contracts of models that may serve: profiles keep what they need, too. The latest decisions come
    from an index that lags by moments. Raises BadInput if the table belongs to another contract, and StoreUnavailable.
    """

    def __init__(
        self,
        table: str,
        contract: Contract,
        *,
        timeout: float = 2.0,
        former: FormerDigests = tuple,
        others: Sequence[Contract] = (),
    ) -> None:
        self.calls, self.plan = Calls(table, timeout), ProfilePlan(contract, others)
        self.table = Table(self.calls, self.plan)
        self._recorder = Recorder(self.table)
        facts = self._create(contract)
        if facts.fingerprint != contract.fingerprint:
            self._bind(contract, facts, former)

    def _create(self, contract: Contract) -> Facts:
        """The facts of the table, created if it is new."""
        ends = self.calls.ends()
        try:
            return self.table.facts(ends)
        except NotFound:
            create = self.calls.put(new_facts(contract, time.time_ns()), "attribute_not_exists(#pk)")
            with suppress(Refused):  # another process came first
                self.calls.call("put_item", ends, **create)
            return self.table.facts(ends)

    def _bind(self, contract: Contract, facts: Facts, former: FormerDigests) -> None:
        """Bind a table that is empty, or that has only a digest, to the contract. BadInput for any other table."""
        empty = not (facts.refresh or facts.refreshed_before or self.decisions(1))
        if not (empty or is_bound_to(contract, facts.contract, facts.fingerprint, former)):
            raise BadInput(
                f"the online store (DynamoDB table {self.calls.table}) was made for another contract than "
                f"{contract.name!r} as it reads now; use the contract of this home, or set FRAUDLINE_ONLINE_TABLE to "
                "another table"
            )
        now = {":contract": {"S": contract.digest}, ":fingerprint": {"S": contract.fingerprint}}
        seen = {":seen": {"S": facts.contract}}
        change = self.calls.update(
            FACTS,
            "SET #contract = :contract, #fingerprint = :fingerprint",
            now | seen,
            "#contract = :seen",
        )
        with suppress(Refused):  # another process came first: checked below
            self.calls.call("update_item", self.calls.ends(), **change)
        if self.table.facts(self.calls.ends()).fingerprint != contract.fingerprint:
            raise StoreBusy(f"the online store (DynamoDB table {self.calls.table}) is being changed; try again")

    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        own, counted = decision_key(event.transaction_id), self.plan.counted(event)
        held, items = self.table.profiles.read(names_of(counted), self.calls.ends(), [own])
        by_name = {each.layout.entity: each for each in held}
        state = self.plan.state(event, plan, lambda entity, key: by_name[entity].parts)
        decision = decision_of(items.get(address(own)))
        if decision is None:
            self._recorder.remember(event, counted, held)
        return decision, state

    def record(self, decision: Decision) -> Decision:
        return self._recorder.record(decision)

    def report(self, transaction_id: str, is_fraud: bool) -> None:
        report(self.table, transaction_id, is_fraud)

    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        ends, items = self.calls.ends(), []
        earliest = number(int(since.timestamp() * 1e9) if since else 0)
        for part in range(LISTS):
            items += self.calls.query(
                ends,
                limit,
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :earliest",
                ExpressionAttributeValues={":feed": {"S": feed_of(part)}, ":earliest": earliest},
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
        return RecordedEvents(self._recorded(max(0, pending - LAG_NS), since_us), now)

    def _recorded(self, first: int, since_us: int) -> Iterator[list[RecordedEvent]]:
        for page in self.table.feed(first):
            events = (RecordedEvent(integer(item, "recorded"), event_of(item)) for item in page)
            yield [each for each in events if each.event.time_us >= since_us]

    def refresh(
        self,
        horizon: int,
        profiles: Iterable[Sequence[SettledProfile]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
        *,
        whole: bool = True,
        basis: str = "",
    ) -> None:
        refresh = Refresh(self.table, horizon, comparison, labelled_us, whole=whole, basis=basis)
        refresh.run(profiles, tail, mark, frauds)
        self.table.facts(self.calls.ends())

    def state(self) -> StoreState:
        ends = self.calls.ends()
        facts, counter = self.table.facts(ends), self.calls.get([COUNTER], ends).get(address(COUNTER), {})
        return StoreState(
            facts.refresh > 0,
            facts.horizon * HOUR_US,
            max(facts.labelled, integer(counter, "labelled")),
            None if facts.settled else facts.began,
            facts.basis if facts.settled else "",
        )

    def tidy(self) -> None:
        """Fold a shard of a busy key, and learn of refreshes."""
        ends = self.calls.ends()
        self.table.facts(ends)
        self.table.profiles.tidy(ends)

    def close(self) -> None:
        self.calls.close()
