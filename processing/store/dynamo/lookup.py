"""Search decisions in DynamoDB: by entity, by label, flagged ones, or all, newest first.

A search reads the shortest of the lists in `processing.store.dynamo.lists` that has all matches, or without lists the
index `latest`. A position is "<recorded>/<digest of the id>".
"""

import heapq
from collections.abc import Generator, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from processing.store.decisions import Decision
from processing.store.dynamo.attributes import decision_of, integer
from processing.store.dynamo.layout import (
    LAG_NS,
    LISTS,
    Item,
    address,
    decision_key,
    key_list,
    list_key,
    position_of,
)
from processing.store.dynamo.lists import AFTER_ALL, feed_query
from processing.store.dynamo.table import Table
from processing.store.lookup import Search

PAGE_SECONDS = 10.0  # a page takes dozens of calls, and no payment waits for it
SMALLEST, LARGEST = 10, 100  # entries per call


def walk(
    table: Table, search: Search, limit: int, after: str | None, *, newer: bool
) -> Generator[tuple[str, Decision], None, None]:
    """The decisions of the list that fits a search best, with their positions.

    The newest come first, or with `newer` the oldest.
    """
    ends = table.calls.ends(PAGE_SECONDS)
    if search.transaction_id is not None:
        yield from _by_id(table, search.transaction_id, after, ends)
        return
    low, high = _bounds(search, after, newer)
    if low > high:
        return
    at_once = min(max(limit // 4, SMALLEST), LARGEST)
    name = _best_list(search) if table.last_facts.listed else None

    def part(number: int) -> Iterator[tuple[str, Item]]:
        query = _list_query(name, number, low, high) if name else feed_query(number, low, high)
        for page in table.calls.pages(lambda: ends, at_once, ScanIndexForward=newer, **query):
            for item in page:
                position = item["sk"]["S"] if name else position_of(integer(item, "recorded"), item["id"]["S"])
                if after is None or (position > after if newer else position < after):
                    yield position, item

    merged = heapq.merge(*map(part, range(LISTS)), key=lambda entry: entry[0], reverse=not newer)
    while entries := list(islice(merged, min(limit + 1, LARGEST))):
        items = [item for _, item in entries]
        if name:
            keys = [decision_key(item["id"]["S"]) for item in items]
            decisions = table.calls.get(keys, ends)
            items = [decisions.get(address(key), {}) for key in keys]
        for (position, _), item in zip(entries, items, strict=True):
            if decision := decision_of(item):
                yield position, decision


def _by_id(table: Table, transaction_id: str, after: str | None, ends: float) -> Iterator[tuple[str, Decision]]:
    key = decision_key(transaction_id)
    item = table.calls.get([key], ends).get(address(key), {})
    decision = decision_of(item)
    if decision and after is None and decision.event.transaction_id == transaction_id:
        yield position_of(integer(item, "recorded"), transaction_id), decision


def _bounds(search: Search, after: str | None, newer: bool) -> tuple[str, str]:
    """The positions to read between. A decision is recorded a moment after it was made, and clocks differ."""
    low = f"{max(0, _ns(search.since) - LAG_NS):020}" if search.since else ""
    high = f"{max(0, _ns(search.until) + LAG_NS):020}{AFTER_ALL}" if search.until else AFTER_ALL
    if after is None:
        return low, high
    return (max(low, after), high) if newer else (low, min(high, after))


def _ns(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000


def _best_list(search: Search) -> str | None:
    """The list with the fewest decisions to read; None for the index of all."""
    if search.key is not None:
        return key_list(*search.key)
    if search.label in ("fraud", "legit"):
        return f"label/{search.label}"
    if search.decision == "fraud" or search.reason is not None:  # only flagged transactions have reasons
        return "fraud"
    return None


def _list_query(name: str, part: int, low: str, high: str) -> dict[str, Any]:
    values = {":pk": list_key(name, part, "")["pk"], ":low": {"S": low or "0"}, ":high": {"S": high}}
    return {
        "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
        "ExpressionAttributeValues": values,
        "ConsistentRead": True,
    }
