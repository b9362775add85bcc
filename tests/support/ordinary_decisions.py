"""Decisions of ordinary customers at ordinary terminals, in the model of DynamoDB, and what they use of it."""

import random
from datetime import UTC, datetime

import pytest
from limited_dynamodb import Usage, limited_table

from processing.contract import Contract
from processing.durations import DAY_US
from processing.store.decisions import Decision, Event
from processing.store.dynamo.store import DynamoStore

START = 20_454 * DAY_US
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, CUSTOMERS, TERMINALS = 35, 10, 3


def decide(store: DynamoStore, event: Event) -> None:
    """Recall the event and record a decision, which must be the one that stands."""
    store.recall(event)
    decision = Decision(event, "legit", 0.125, 0.5, "20260301T000000Z-abcde", bytes(8 * 40), NOW)
    assert store.record(decision) == decision


def usage_of_ordinary_decisions(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """What the calls of each decision used, for customers who pay three times a day, at terminals with ten payments a
    day, over more days than any window has."""
    random.seed(7)
    table = limited_table(START / 1e6, monkeypatch)
    store = DynamoStore("table", contract)
    table.usage.clear()
    times = sorted(random.randrange(DAYS * DAY_US) for _ in range(3 * CUSTOMERS * DAYS))
    for number, time_us in enumerate(times):
        keys = (f"customer-{random.randrange(CUSTOMERS)}", f"terminal-{random.randrange(TERMINALS)}")
        extras = (("channel", random.choice(["chip", "online"])),)
        event = Event(f"transaction-{number:06}", START + time_us, int(random.lognormvariate(8, 1)), keys, extras)
        table.time.sleep(max(0.0, event.time_us / 1e6 - table.time.time()))
        decide(store, event)
    return table.usage
