"""Report the label of a decided transaction, in one transaction of DynamoDB."""

from processing.errors import NotFound
from processing.store.dynamo.attributes import decision_of, digest_of, event_item, expiry, integer, number, unchanged
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.counters import counted_as_fraud, is_counted
from processing.store.dynamo.facts import Facts
from processing.store.dynamo.layout import (
    COUNTER,
    FACTS,
    KEPT_DAYS,
    Item,
    address,
    decision_key,
    fraud_shard_of,
    frauds_key,
    report_key,
)
from processing.store.dynamo.lists import label_entry
from processing.store.dynamo.table import Table


def report(table: Table, transaction_id: str, is_fraud: bool) -> None:
    """See `OnlineStore.report`."""
    calls, ends, attempt = table.calls, table.calls.ends(), 0
    keys = [decision_key(transaction_id), COUNTER, FACTS, frauds_key(fraud_shard_of(transaction_id))]
    while True:
        items = calls.get(keys, ends)
        try:
            changes = _changes(table, transaction_id, is_fraud, *(items.get(address(key), {}) for key in keys))
            calls.call("transact_write_items", ends, TransactItems=changes)
            return
        except Refused:  # another report came first, or a refresh began or ended
            calls.pause(attempt, ends, None)
            attempt += 1


def _changes(
    table: Table, transaction_id: str, is_fraud: bool, item: Item, counter: Item, facts_item: Item, frauds: Item
) -> list[Item]:
    """The changes of a report, given the items of the decision, the counter, the facts and the frauds."""
    known, calls = decision_of(item), table.calls
    if known is None:
        raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
    facts = Facts.of(facts_item)
    in_data = digest_of(known.event) in frauds.get("ids", {}).get("SS", ())
    entry = event_item(known.event) | {"is_fraud": {"BOOL": is_fraud}, "listed": {"BOOL": True}}
    changes = _numbered(table, entry, counter)
    seen_facts = {":refresh": number(facts.refresh), ":done": number(facts.done)}
    changes.append(calls.check(FACTS, "#refresh = :refresh AND #done = :done", seen_facts))
    setting = "SET #is_fraud = :label"
    values: Item = {":label": {"BOOL": is_fraud}}
    if facts.settled and is_counted(item, facts, in_data):  # otherwise a refresh counts it
        counted = counted_as_fraud(item, facts, in_data)
        changes += table.fraud_updates(known.event, int(is_fraud) - int(counted), facts.era)
        setting += ", #counted = :label, #basis = :done"
        values[":done"] = number(facts.done)
    changes += _relisting(table, item, is_fraud)
    condition, seen = unchanged(item, ("era", "displaced", "is_fraud"))
    changes.append({"Update": calls.update(decision_key(transaction_id), setting, values | seen, condition)})
    return changes


def _numbered(table: Table, report: Item, counter: Item) -> list[Item]:
    """The changes that store a report under the next number, refused if that is taken by now."""
    count = integer(counter, "next", 1)
    labelled = max(integer(counter, "labelled"), integer(report, "time_us"))
    numbers = {":this": number(count), ":next": number(count + 1), ":labelled": number(labelled)}
    free = "attribute_not_exists(#next) OR #next = :this"
    item = report_key(count) | report | {"expires": expiry(KEPT_DAYS)}
    return [
        {"Update": table.calls.update(COUNTER, "SET #next = :next, #labelled = :labelled", numbers, free)},
        {"Put": {"TableName": table.name, "Item": item}},
    ]


def _relisting(table: Table, item: Item, label: bool) -> list[Item]:
    """The changes that put a decision into the list of its label, and remove it from the list of the other."""
    if "expires" not in item:
        return []
    put = {"Put": {"TableName": table.name, "Item": label_entry(item, label)}}
    if item.get("is_fraud", {"BOOL": label})["BOOL"] == label:
        return [put]
    before = label_entry(item, not label)
    key = {name: before[name] for name in ("pk", "sk")}
    return [put, {"Delete": {"TableName": table.name, "Key": key}}]
