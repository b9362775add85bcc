"""Report the label of a decided transaction, in one transaction of DynamoDB."""

from processing.errors import NotFound
from processing.store.dynamo.attributes import decision_of, event_item, expiry, integer, number, unchanged
from processing.store.dynamo.calls import Refused
from processing.store.dynamo.layout import COUNTER, KEPT_DAYS, PROGRESS, Item, address, decision_key, report_key
from processing.store.dynamo.lists import label_entry
from processing.store.dynamo.profiles import names_of
from processing.store.dynamo.table import Table
from processing.store.profiles.frauds import ASSUMED
from processing.store.profiles.profile import Counted, Profile


def report(table: Table, transaction_id: str, is_fraud: bool) -> None:
    """See `OnlineStore.report`."""
    calls, ends = table.calls, table.calls.ends()
    keys = [decision_key(transaction_id), COUNTER, PROGRESS]
    while True:
        items = calls.get(keys, ends)
        read = [items.get(address(key), {}) for key in keys]
        try:
            changes = _changes(table, transaction_id, is_fraud, ends, *read)
            calls.transact(changes, ends)
            return
        except Refused as refused:  # another report came first, or a profile was written at this moment
            calls.pause_for(refused, ends)


def is_counted(item: Item, event: Counted, profile: Profile, read: int) -> bool:
    """Whether a profile counts a decided transaction, as far as the store knows.

    A refresh that has read the decision counts it from then on; until then one that an earlier version recorded is not
    counted. A fraud of the tables is known to be the same one.
    """
    if "displaced" in item:
        return False
    known = any(
        each.id == event.id and (each.time_us, each.amount) == (event.time_us, event.amount)
        for each in profile.frauds.settled
    )
    is_live = event.time_us >= profile.horizon_us and "era" not in item
    return known or is_live or integer(item, "recorded") <= read


def _changes(
    table: Table, transaction_id: str, is_fraud: bool, ends: float, item: Item, counter: Item, progress: Item
) -> list[Item]:
    """The changes of a report, given the items of the decision, of the counter and of refreshes."""
    known, calls = decision_of(item), table.calls
    if known is None:
        raise NotFound(f"no decision is recorded for transaction {transaction_id!r}; check the id")
    label = {"BOOL": is_fraud}
    condition, seen = unchanged(item, ("displaced", "is_fraud"))
    own = calls.update(decision_key(transaction_id), "SET #is_fraud = :label", {":label": label} | seen, condition)
    entry = event_item(known.event) | {"is_fraud": label, "listed": {"BOOL": True}}
    changes = [{"Update": own}, *_numbered(table, entry, counter), *_relisting(table, item, is_fraud)]
    if "displaced" in item:
        return changes
    # What a profile counts depends on which refresh was completed last.
    condition, seen = unchanged(progress, ["done"])
    changes.append(calls.check(PROGRESS, condition, seen))
    # A profile that does not count the transaction is written too: a refresh that will count it must notice.
    events = table.plan.counted(known.event)
    held, _ = table.profiles.read(names_of(events), ends)
    for event, each in zip(events, held, strict=True):
        profile = table.profiles.own(each)
        if is_counted(item, event, profile, max(each.read, integer(progress, "read"))):
            profile.report(event, is_fraud, ASSUMED)
        changes += table.profiles.fold(each, profile)
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
        {"Put": table.calls.put(item)},
    ]


def _relisting(table: Table, item: Item, label: bool) -> list[Item]:
    """The changes that put a decision into the list of its label, and remove it from the list of the other."""
    if "expires" not in item:
        return []
    put = {"Put": table.calls.put(label_entry(item, label))}
    if item.get("is_fraud", {"BOOL": label})["BOOL"] == label:
        return [put]
    before = label_entry(item, not label)
    key = {name: before[name] for name in ("pk", "sk")}
    return [put, {"Delete": {"TableName": table.name, "Key": key}}]
