"""Looking decisions up in DynamoDB: by entity, by label, those called fraud, or all, the newest first.

Beside a decision stands one small item in each list that it is in (see `processing.store.dynamo.items`), written in the
transaction that records it. A list has its shards, so that a busy terminal is no hot partition, and each of them is in
the order of recording. Why items and not an index of the service: an index holds an item once, so there would have to
be one for each entity; an update of a stack adds one at a time; and one that is throttled holds up decisions.

A table of an earlier version has decisions in no list. Until a run has put them there (`is_listed`), all are read
by the index `latest`, a page at a time.

A position is "<recorded>/<digest of the id>".
"""

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from processing.store.dynamo.calls import WRITTEN_AT_ONCE
from processing.store.dynamo.items import (
    LAG_NS,
    SHARDS,
    Item,
    address,
    decision_key,
    decision_of,
    event_of,
    feed_of,
    integer,
    list_key,
    lists_of,
    position_of,
    shard_of,
)
from processing.store.interface import Decision
from processing.store.lookup import LABELS, Search

if TYPE_CHECKING:
    from processing.store.dynamo.store import DynamoStore

LONGEST_SECONDS = 10.0  # for a page: dozens of calls, and nobody waits at a till
SMALLEST, LARGEST = 10, 100  # entries that one call asks for
AFTER_ALL = "~"  # of all positions


def rows(
    store: "DynamoStore", search: Search, limit: int, after: str | None, *, newer: bool
) -> Generator[tuple[str, Decision], None, None]:
    """The decisions of the shortest list that has all of those looked for, with their positions.

    In the direction of the walk: the newest first, or with `newer` the oldest.
    """
    ends = store.calls.ends(LONGEST_SECONDS)
    if search.transaction_id is not None:
        yield from _one(store, search.transaction_id, after, ends)
        return
    low, high = _bounds(search, after, newer)
    if low > high:
        return
    at_once = min(max(limit // 4, SMALLEST), LARGEST)
    name = _list(search) if store.is_listed else None

    def shard(number: int) -> Iterator[tuple[str, Item]]:
        asked = _of_list(name, number, low, high) if name else _of_feed(number, low, high)
        for page in store.calls.pages(lambda: ends, at_once, ScanIndexForward=newer, **asked):
            for item in page:
                position = item["sk"]["S"] if name else position_of(integer(item, "recorded"), item["id"]["S"])
                if after is None or (position > after if newer else position < after):
                    yield position, item

    found = heapq.merge(*map(shard, range(SHARDS)), key=lambda entry: entry[0], reverse=not newer)
    while entries := list(islice(found, min(limit + 1, LARGEST))):
        items = [item for _, item in entries]
        if name:
            wanted = [decision_key(item["id"]["S"]) for item in items]
            there = store.calls.get(wanted, ends)
            items = [there.get(address(key), {}) for key in wanted]
        for (position, _), item in zip(entries, items, strict=True):
            if made := decision_of(item):
                yield position, made


def _one(store: "DynamoStore", key: str, after: str | None, ends: float) -> Iterator[tuple[str, Decision]]:
    place = decision_key(key)
    item = store.calls.get([place], ends).get(address(place), {})
    made = decision_of(item)
    if made and after is None and made.event.transaction_id == key:
        yield position_of(integer(item, "recorded"), key), made


def _bounds(search: Search, after: str | None, newer: bool) -> tuple[str, str]:
    """Between which positions to read. A decision is recorded a moment after it was made, and clocks differ."""
    low = f"{max(0, _ns(search.since) - LAG_NS):020}" if search.since else ""
    high = f"{max(0, _ns(search.until) + LAG_NS):020}{AFTER_ALL}" if search.until else AFTER_ALL
    if after is None:
        return low, high
    return (max(low, after), high) if newer else (low, min(high, after))


def _ns(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000


def _list(search: Search) -> str | None:
    """The list that has the fewest decisions for a search; None: the index of all."""
    if search.key is not None:
        place, key = search.key
        return f"entity/{place}/{key}"
    if search.label in ("fraud", "legit"):
        return f"label/{search.label}"
    if search.decision == "fraud" or search.reason is not None:  # only what is called fraud has reasons
        return "fraud"
    return None


def _of_list(name: str, shard: int, low: str, high: str) -> dict[str, Any]:
    values = {":pk": list_key(name, shard, "")["pk"], ":low": {"S": low or "0"}, ":high": {"S": high}}
    return {
        "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
        "ExpressionAttributeValues": values,
        "ConsistentRead": True,
    }


def _of_feed(shard: int, low: str, high: str) -> dict[str, Any]:
    first, last = int(low.partition("/")[0] or 0), int(high.rstrip(AFTER_ALL).partition("/")[0] or 10**19)
    values = {":feed": {"S": feed_of(shard)}, ":low": {"N": str(first)}, ":high": {"N": str(last)}}
    return {
        "IndexName": "latest",
        "KeyConditionExpression": "feed = :feed AND recorded BETWEEN :low AND :high",
        "ExpressionAttributeValues": values,
    }


def entries_of(item: Item) -> list[Item]:
    """The items that a decision's item has in lists, but for that of its label."""
    return [_entry(name, item) for name in lists_of(event_of(item), item["decision"]["S"])]


def label_entry(item: Item, label: bool) -> Item:
    """The item that a decision has in the list of a label."""
    return _entry(f"label/{LABELS[label]}", item)


def _entry(name: str, item: Item) -> Item:
    key, recorded = item["id"]["S"], integer(item, "recorded")
    place = list_key(name, shard_of(key) % SHARDS, position_of(recorded, key))
    return place | {"id": {"S": key}, "expires": item["expires"]}


def unlisted(store: "DynamoStore", ends: Callable[[], float]) -> Iterator[list[Item]]:
    """The items to put so that lists have what is recorded and reported, in batches that one call takes.

    What an earlier version wrote is in none; its servers may still run for a while beside those of this one.
    """
    yield from _batches(_of_decisions(store, ends))
    yield from _batches(_of_reports(store, ends))


def _of_decisions(store: "DynamoStore", ends: Callable[[], float]) -> Iterator[Item]:
    since = max(0, store.facts(ends()).listed - LAG_NS)
    for shard in range(SHARDS):
        asked = _of_feed(shard, f"{since:020}", AFTER_ALL) | {
            "FilterExpression": "attribute_not_exists(#listed)",
            "ExpressionAttributeNames": {"#listed": "listed"},
        }
        for page in store.calls.pages(ends, **asked):
            for item in page:
                if decision_of(item) and "expires" in item:
                    yield from entries_of(item)


def _of_reports(store: "DynamoStore", ends: Callable[[], float]) -> Iterator[Item]:
    old = [item for _, item in store.told(ends()) if "listed" not in item and "expires" in item]
    for start in range(0, len(old), LARGEST):
        told = old[start : start + LARGEST]
        decided = store.calls.get({one["id"]["S"]: decision_key(one["id"]["S"]) for one in told}.values(), ends())
        for item in decided.values():
            if decision_of(item) and "is_fraud" in item and "expires" in item:
                yield label_entry(item, item["is_fraud"]["BOOL"])
        yield from (one | {"listed": {"BOOL": True}} for one in told)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, WRITTEN_AT_ONCE)):
        yield list({address(item): item for item in batch}.values())  # one call takes a key once
