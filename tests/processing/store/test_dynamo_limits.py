"""The online store in a model of DynamoDB with its documented limits (`limited_dynamodb`).

An ordinary decision stays small, and one busy merchant does not wait for itself.
"""

import random
from collections.abc import Callable
from functools import partial

import pytest
from limited_dynamodb import LARGEST_ITEM, WRITES, LimitedDynamoDB, limited_table
from ordinary_decisions import START, decide, usage_of_ordinary_decisions

from processing.contract import Contract
from processing.contracts.reader import parse
from processing.durations import DAY_US, HOUR_US
from processing.features.feature_set import FeatureSet
from processing.store.decisions import Event
from processing.store.dynamo.calls import Calls, Refused
from processing.store.dynamo.profile_items import folded_in
from processing.store.dynamo.store import DynamoStore
from processing.store.interface import StoreUnavailable

HEAD = """
name = "limits"
categorical = { channel = ["chip", "online"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[label]
delay_days = 2
"""
DAYS = parse(
    HEAD
    + """
[[entity]]
name = "customer"
column = "customer_id"
windows_days = [1, 7, 30]
[[entity]]
name = "terminal"
column = "terminal_id"
windows_days = [1, 7, 30]
fraud_windows_days = [1, 7, 30]
"""
)
TILES = parse(
    HEAD
    + """
[[entity]]
name = "customer"
column = "customer_id"
windows = ["10m", "1h", "1d", "7d", "30d"]
aggregates = ["count", "amount", "extremes", "recency"]
[[entity]]
name = "terminal"
column = "terminal_id"
windows = ["10m", "1h", "1d", "7d", "30d"]
fraud_windows = ["7d", "30d"]
aggregates = ["count", "amount", "extremes", "recency"]
"""
)
MERCHANTS = parse(
    HEAD
    + """
[[entity]]
name = "customer"
column = "customer_id"
windows = ["1h", "1d", "30d"]
[[entity]]
name = "merchant"
column = "merchant_id"
windows = ["1h", "1d", "30d"]
fraud_windows = ["1d", "30d"]
aggregates = ["amount", "extremes", "share:channel", "distinct:customer_id"]
busy = true
"""
)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> LimitedDynamoDB:
    random.seed(7)
    return limited_table(START / 1e6, monkeypatch)


@pytest.mark.parametrize("contract", [DAYS, TILES], ids=["days", "tiles"])
def test_an_ordinary_decision_reads_and_writes_at_most_twenty_units(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer who pays three times a day, at a terminal with ten payments a day, with windows of 30 days."""
    usage = usage_of_ordinary_decisions(contract, monkeypatch)
    for read, write in zip(usage[::2], usage[1::2], strict=True):
        assert (read.operation, write.operation) == ("read", "transaction")
        assert max(read.items, read.units) <= 20
        assert write.units <= 20
        assert write.size < 20_000


def busy_payments(seconds: float, a_second: int) -> list[tuple[float, Event]]:
    """Payments at one merchant, each with the second at which it comes."""
    return [
        (
            number / a_second,
            Event(
                f"transaction-{number:06}",
                START + number * 1_000_000 // a_second,
                number,
                (f"customer-{number}", "merchant"),
                (("channel", "chip"),),
            ),
        )
        for number in range(int(seconds * a_second))
    ]


@pytest.mark.slow
def test_one_merchant_takes_a_thousand_decisions_a_second(
    table: LimitedDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From four servers, while shards are folded and frauds are reported."""
    monkeypatch.setattr("processing.store.dynamo.profiles.FOLDED_BYTES", 300)  # what takes minutes otherwise
    stores = [DynamoStore("table", MERCHANTS) for _ in range(4)]
    payments = busy_payments(1.0, 1_000)
    tasks: list[tuple[float, Callable[[], None]]] = [
        (at, partial(decide, random.choice(stores), event)) for at, event in payments
    ]
    tasks += [(number / 10, random.choice(stores).tidy) for number in range(1, 14)]
    reported = payments[:600:100]
    tasks += [(at + 0.5, partial(stores[0].report, event.transaction_id, True)) for at, event in reported]
    assert table.time.run(tasks) == []
    folded = folded_in(table.items["profile/merchant/merchant", "profile"])
    assert sum(map(bool, folded)) > len(reported)
    assert table.largest < LARGEST_ITEM / 4
    assert max(table.partitions("write").values()) < WRITES / 2
    seen = dict(
        zip(
            FeatureSet(MERCHANTS).state_names,
            stores[1].recall(Event("probe", START + 3 * DAY_US, 1, ("nobody", "merchant"), (("channel", "chip"),)))[1],
            strict=True,
        )
    )
    assert seen["merchant:n_30d"] == len(payments)
    assert seen["merchant:s_30d"] == sum(event.amount for _, event in payments)
    assert seen["merchant:frauds_30d"] == len(reported)


def count_as_before(calls: Calls, event: Event) -> None:
    """What the previous layout did for one terminal: read the facts and the hour's slots, then add to the items of its
    day and of its ten minutes, in which each distinct time has three counters of its own."""
    ends, hour = calls.ends(), event.time_us // HOUR_US % 24
    slot, moment = event.time_us % DAY_US // (HOUR_US // 6), event.time_us % DAY_US
    day = {"pk": {"S": f"day/1/{event.keys[1]}/{event.time_us // DAY_US}"}, "sk": {"S": "hours"}}
    ten = day | {"sk": {"S": f"slot{slot:03}"}}
    facts = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
    values = {":one": {"N": "1"}, ":s": {"N": "100"}, ":q": {"N": "10000"}, ":end": {"N": "1800000000"}}
    calls.get([facts, day, ten], ends)
    updates = [
        calls.update(key, f"SET #expires = :end ADD #n{within} :one, #s{within} :s, #q{within} :q", values)
        for key, within in ((day, hour), (ten, moment))
    ]
    attempt = 0
    while True:
        try:
            calls.transact([{"Update": update} for update in updates], ends)
            return
        except Refused as refused:
            calls.pause(attempt, ends, refused)
            attempt += 1


def test_the_previous_layout_fails_in_this_model(table: LimitedDynamoDB) -> None:
    """So the model shows what the layout is for. Only its writes for one terminal are modelled."""
    calls = Calls("table", 2.0)
    payments = busy_payments(0.4, 1_000)
    errors = table.time.run([(at, partial(count_as_before, calls, event)) for at, event in payments])
    assert len(errors) > len(payments) / 2
    assert all(isinstance(error, StoreUnavailable) for error in errors)
