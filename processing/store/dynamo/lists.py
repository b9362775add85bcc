"""The lists by which decisions are searched in DynamoDB.

Each decision has one small item in every list that it is in (see `processing.store.dynamo.layout`), written in the
transaction that records it. A list is split into parts, so that a busy terminal is no hot partition, and each part is
in the order of recording. These are items rather than an index of the service for three reasons: an index holds an item
once, so every entity would need an index; an update of a stack adds only one at a time; and a throttled index holds up
decisions.

A table of an earlier version has no lists until a run creates them.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from processing.store.dynamo.attributes import decision_of, event_of, integer
from processing.store.dynamo.calls import WRITTEN_AT_ONCE
from processing.store.dynamo.layout import (
    LAG_NS,
    LISTS,
    Item,
    address,
    feed_of,
    list_key,
    lists_of,
    part_of,
    position_of,
)
from processing.store.dynamo.table import Table
from processing.store.groups import groups_of
from processing.store.lookup import LABELS

REPORTS_AT_ONCE = 100
AFTER_ALL = "~"  # sorts after all positions


def entries_of(item: Item) -> list[Item]:
    """The list items of a decision's item, except that for its label."""
    return [_entry(name, item) for name in lists_of(event_of(item), item["decision"]["S"])]


def label_entry(item: Item, label: bool) -> Item:
    """The item of a decision in the list of a label."""
    return _entry(f"label/{LABELS[label]}", item)


def _entry(name: str, item: Item) -> Item:
    key, recorded = item["id"]["S"], integer(item, "recorded")
    entry = list_key(name, part_of(key), position_of(recorded, key))
    return entry | {"id": {"S": key}, "expires": item["expires"]}


def feed_query(part: int, low: str, high: str) -> dict[str, Any]:
    """The query for all decisions of a part between two positions, by the index `latest`."""
    first, last = int(low.partition("/")[0] or 0), int(high.rstrip(AFTER_ALL).partition("/")[0] or 10**19)
    values = {":feed": {"S": feed_of(part)}, ":low": {"N": str(first)}, ":high": {"N": str(last)}}
    return {
        "IndexName": "latest",
        "KeyConditionExpression": "feed = :feed AND recorded BETWEEN :low AND :high",
        "ExpressionAttributeValues": values,
    }


def missing_entries(table: Table, ends: Callable[[], float]) -> Iterator[list[Item]]:
    """The items that lists lack, in batches for one call each.

    An earlier version writes none; its servers may run beside those of this version for a while.
    """
    yield from _batches(_of_decisions(table, ends))
    yield from _batches(_of_reports(table, ends))


def _of_decisions(table: Table, ends: Callable[[], float]) -> Iterator[Item]:
    since = max(0, table.facts(ends()).listed - LAG_NS)
    for part in range(LISTS):
        query = feed_query(part, f"{since:020}", AFTER_ALL) | {
            "FilterExpression": "attribute_not_exists(#listed)",
            "ExpressionAttributeNames": {"#listed": "listed"},
        }
        for page in table.calls.pages(ends, **query):
            for item in page:
                if decision_of(item) and "expires" in item:
                    yield from entries_of(item)


def _of_reports(table: Table, ends: Callable[[], float]) -> Iterator[Item]:
    unlisted = [item for _, item in table.reports(ends()) if "listed" not in item and "expires" in item]
    for reports in groups_of(unlisted, REPORTS_AT_ONCE):
        for _, item in table.items_of((report["id"]["S"] for report in reports), ends):
            if decision_of(item) and "is_fraud" in item and "expires" in item:
                yield label_entry(item, item["is_fraud"]["BOOL"])
        yield from (report | {"listed": {"BOOL": True}} for report in reports)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, WRITTEN_AT_ONCE)):
        yield list({address(item): item for item in batch}.values())  # a call takes each key only once
