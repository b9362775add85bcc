"""The table of a store: the reads that recording, reporting and refreshing share."""

from collections.abc import Callable, Iterable, Iterator

from processing.errors import NotFound
from processing.store.dynamo.attributes import number
from processing.store.dynamo.calls import READ_AT_ONCE, Calls
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import (
    FACTS,
    LISTS,
    PROGRESS,
    REPORTS,
    Item,
    address,
    decision_key,
    feed_of,
    report_key,
)
from processing.store.dynamo.profiles import Profiles
from processing.store.groups import groups_of
from processing.store.profiles.plan import ProfilePlan

READ_SECONDS = 60.0  # for many pages, which no payment waits for
FEED = ("id", "time_us", "amount", "keys", "extras", "recorded", "displaced", "shards")


class Table:
    """One table, reached by `calls`, and the profiles in it."""

    def __init__(self, calls: Calls, plan: ProfilePlan) -> None:
        self.calls, self.name, self.plan = calls, calls.table, plan
        self.profiles = Profiles(calls, plan)

    @property
    def last_facts(self) -> Facts:
        """The facts as they were read last."""
        return self.profiles.facts

    def facts(self, ends: float) -> Facts:
        """The facts as they are now. Raises NotFound in a new table."""
        items = self.calls.get([FACTS, PROGRESS], ends)
        if address(FACTS) not in items:
            raise NotFound(f"the table {self.name} is new")
        self.profiles.facts = Facts.of(items[address(FACTS)], items.get(address(PROGRESS), {}))
        return self.profiles.facts

    def items_of(self, ids: Iterable[str], ends: Callable[[], float]) -> Iterator[tuple[str, Item]]:
        """Each id with its item, which is empty where there is none. One call for every hundred."""
        for group in groups_of(list(ids), READ_AT_ONCE):
            keys = {key: decision_key(key) for key in group}
            found = self.calls.get(keys.values(), ends())
            yield from ((key, found.get(address(own), {})) for key, own in keys.items())

    def reports(self, ends: float, after: int = 0) -> list[tuple[int, Item]]:
        """The items of all reports with higher numbers than `after`, by their numbers."""
        items = self.calls.query(
            ends,
            KeyConditionExpression="pk = :reports AND sk > :after",
            ExpressionAttributeValues={":reports": {"S": REPORTS}, ":after": report_key(after)["sk"]},
            ConsistentRead=True,
        )
        return [(int(item["sk"]["S"]), item) for item in items]

    def feed(self, first: int) -> Iterator[list[Item]]:
        """The attributes FEED of the decisions recorded at `first` (ns) or later."""
        for part in range(LISTS):
            yield from self.calls.pages(
                lambda: self.calls.ends(READ_SECONDS),
                IndexName="latest",
                KeyConditionExpression="feed = :feed AND recorded >= :first",
                ExpressionAttributeValues={":feed": {"S": feed_of(part)}, ":first": number(first)},
                ExpressionAttributeNames={f"#{name}": name for name in FEED},
                ProjectionExpression=", ".join(f"#{name}" for name in FEED),
            )
