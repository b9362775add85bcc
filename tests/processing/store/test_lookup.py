"""Searching decisions in SQLite and DynamoDB: every match exactly once, without reading everything."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feature_job import bring_up_to_date
from hypothesis import given, settings
from hypothesis import strategies as st
from test_online import CONTRACT, HOUR, PATIENT, decided, event, home, locked, open_at, store

from processing.store import lookup
from processing.store.decisions import Decision
from processing.store.dynamo.store import DynamoStore
from processing.store.interface import OnlineStore, StoreUnavailable
from processing.store.lookup import DecisionPage, Search
from processing.store.sqlite import lookup as sqlite_lookup
from processing.store.sqlite.indexes import indexes
from processing.store.sqlite.store import SqliteStore

__all__ = ["home", "store"]  # fixtures of the tests of the store
REASONS = '[{"text": "amount 9.3x this customer\'s mean", "feature": "x", "weight": 1.0}]'
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _at_the_time_of_the_test() -> None:
    """Decide now: a search by the time of recording allows clocks to differ by minutes only."""
    global NOW
    NOW = datetime.now(UTC)


def decision_at(name: str, seconds: float = 0.0, *, fraud: bool = False, **of_event: Any) -> Decision:
    """A decision made so many seconds after NOW; a flagged one has a reason."""
    decision = replace(decided(event(name, **of_event)), decided_at=NOW + timedelta(seconds=seconds))
    return replace(decision, decision="fraud", reasons=REASONS) if fraud else decision


def walk(store: OnlineStore, search: Search, limit: int, *, newer: bool = False, after: str | None = None) -> list[str]:
    """The ids of all pages, in the order of the walk."""
    ids: list[str] = []
    while True:
        page = store.search(search, limit, after, newer=newer)
        assert len(page.decisions) <= limit
        matches = [decision.event.transaction_id for decision in page.decisions]
        ids += matches[::-1] if newer else matches
        if not page.more:
            return ids
        after = page.first if newer else page.last


@pytest.fixture
def filled(store: OnlineStore) -> OnlineStore:
    """Twelve decisions a second apart: every fourth flagged, every third of another customer, three reported."""
    for i in range(12):
        customer = "C2" if i % 3 == 0 else "C1"
        store.record(decision_at(f"t{i:02}", i, fraud=i % 4 == 0, customer=customer, cents=100 * i, second=i))
    for name, label in (("t00", True), ("t05", False), ("t08", False), ("t08", True)):
        store.report(name, label)
    return store


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def searches() -> list[tuple[Search, Iterable[int]]]:
    """Searches in the store `filled`, and what they match."""
    return [
        (Search(), range(12)),
        (Search(transaction_id="t07"), [7]),
        (Search(transaction_id="t0"), []),
        (Search(keys=("C2", None)), [0, 3, 6, 9]),
        (Search(keys=(None, "T1")), range(12)),
        (Search(keys=("C2", "T2")), []),
        (Search(keys=("C", None)), []),
        (Search(since=at(3), until=at(6)), [3, 4, 5]),
        (Search(since=at(6), until=at(3)), []),
        (Search(since=at(20)), []),
        (Search(decision="fraud"), [0, 4, 8]),
        (Search(decision="legit", keys=("C1", None)), [1, 2, 5, 7, 10, 11]),
        (Search(label="fraud"), [0, 8]),
        (Search(label="legit"), [5]),
        (Search(label="none"), [1, 2, 3, 4, 6, 7, 9, 10, 11]),
        (Search(label="fraud", decision="fraud", since=at(1)), [8]),
        (Search(least=900), [9, 10, 11]),
        (Search(reason="THIS CUSTOMER'S"), [0, 4, 8]),
        (Search(reason="weight"), []),
        (Search(transaction_id="t08", label="legit"), []),
    ]


@pytest.mark.slow
def test_a_search_finds_all_matches_newest_first(filled: OnlineStore) -> None:
    for search, expected in searches():
        ids = [f"t{i:02}" for i in expected]
        for limit in (1, 5, 50):
            assert walk(filled, search, limit) == ids[::-1], search
            assert walk(filled, search, limit, newer=True) == ids, search


def test_new_decisions_do_not_shift_pages(filled: OnlineStore) -> None:
    """A walk meets each decision present at its start once; on the way back it meets those made since."""
    search, ids = Search(keys=("C1", None)), []
    first = page = filled.search(search, 2)
    for i in range(12, 30):
        ids += [decision.event.transaction_id for decision in page.decisions]
        filled.record(decision_at(f"t{i:02}", i, second=i))
        if not page.more:
            break
        page = filled.search(search, 2, page.last)
    assert ids == ["t11", "t10", "t08", "t07", "t05", "t04", "t02", "t01"]
    newer = walk(filled, search, 3, newer=True, after=first.first)
    assert newer == ["t12", "t13", "t14", "t15"]
    assert filled.search(search, 2, newer and filled.search(search, 1).first, newer=True) == DecisionPage([])


def test_decisions_of_the_same_moment_appear_once_each(store: OnlineStore) -> None:
    names = {f"same{i}" for i in range(9)}
    for name in names:
        store.record(decision_at(name))
    for search in (Search(), Search(keys=("C1", None))):
        for newer in (False, True):
            ids = walk(store, search, 2, newer=newer)
            assert (len(ids), set(ids)) == (9, names)


def test_a_page_reads_a_limited_number_of_decisions_and_reports_where_it_stopped(
    filled: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_READ", 5)
    page = filled.search(Search(least=0, label="none", keys=("C2", None)), 50)
    assert [decision.event.transaction_id for decision in page.decisions] == ["t09", "t06", "t03"]
    assert not page.more  # the customer has no more than four
    page = filled.search(Search(least=10_000), 50)
    assert (page.decisions, page.more, page.reached) == ([], True, at(7))
    page = filled.search(Search(least=10_000), 50, page.last)
    assert (page.decisions, page.more, page.reached) == ([], True, at(2))
    page = filled.search(Search(least=10_000), 50, page.last)
    assert (page.decisions, page.more, page.reached) == ([], False, at(0))


def test_unusual_ids_are_found(store: OnlineStore) -> None:
    for i, name in enumerate(("x" * 256, "a/b#c d", "Größe", "0", 'quo"te\\', "%'--", "\x01")):
        store.record(decision_at(name, i, customer=name, terminal=f"{name}/1"))
        for search in (
            Search(transaction_id=name),
            Search(keys=(name, None)),
            Search(keys=(None, f"{name}/1")),
            Search(keys=(name, f"{name}/1")),
        ):
            assert walk(store, search, 5) == [name]


def test_a_decision_from_before_the_horizon_is_found_too(store: OnlineStore) -> None:
    bring_up_to_date(store, {event("d1", HOUR - 1): 0}, HOUR, CONTRACT)
    store.record(decision_at("late", hour=HOUR - 2, customer="C9"))
    assert walk(store, Search(keys=("C9", None)), 5) == ["late"]


rows = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 2), st.sampled_from([None, True, False])), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(
    rows,
    st.builds(
        Search,
        keys=st.sampled_from([(), ("C0", None), (None, "T1"), ("C1", "T1")]),
        since=st.sampled_from([None, at(1), at(3)]),
        until=st.sampled_from([None, at(2), at(4)]),
        decision=st.sampled_from([None, "fraud", "legit"]),
        label=st.sampled_from([None, "none", "fraud", "legit"]),
        least=st.sampled_from([None, 5]),
        reason=st.sampled_from([None, "mean"]),
    ),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_search_equals_a_scan(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], search: Search, limit: int, newer: bool
) -> None:
    store = open_at(tmp_path_factory.mktemp("search"))
    for i, (second, fraud, who, label) in enumerate(rows):
        store.record(
            decision_at(
                f"t{i}", second, fraud=fraud, customer=f"C{who}", terminal=f"T{who % 2}", cents=i, second=i, hour=HOUR
            )
        )
        if label is not None:
            store.report(f"t{i}", label)
    everything = store.decisions(100)
    expected = [decision.event.transaction_id for decision in everything if search.matches(decision)]
    assert sorted(walk(store, search, limit, newer=newer)) == sorted(expected)
    store.close()


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("after", [None, "1.5/3"])
def test_no_search_sorts_or_reads_a_whole_table(tmp_path: Path, after: str | None, newer: bool) -> None:
    store = open_at(tmp_path)
    with contextlib.closing(sqlite3.connect(store.path)) as db:
        for search, _ in searches():
            statement, arguments = sqlite_lookup.query(search, after, newer=newer)
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)]
            assert all("SEARCH" in step and "INDEX" in step for step in plan), (search, plan)
    store.close()


def without_indexes(path: Path) -> None:
    """Make a store like those of the previous version."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        for name in indexes(2):
            db.execute(f"DROP INDEX {name}")


def test_indexes_are_created_in_a_store_of_the_previous_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_at(tmp_path)
    store.record(decision_at("a", customer="C7"))
    store.close()
    without_indexes(store.path)
    monkeypatch.setattr("processing.store.sqlite.indexes.MANY", 0)
    opened: list[SqliteStore] = []
    opening = threading.Thread(target=lambda: opened.append(open_at(tmp_path, timeout=0.2)))
    with locked(store):  # longer than the timeout of a call
        opening.start()
        time.sleep(1.0)
        assert opened == []
    opening.join(30)
    assert walk(opened[0], Search(keys=("C7", None)), 5) == ["a"]
    assert "creating indexes for the 1 decisions" in caplog.text
    opened[0].close()


def test_an_index_that_cannot_be_created_raises_store_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(tmp_path)
    store.close()
    without_indexes(store.path)
    monkeypatch.setattr("processing.store.sqlite.indexes.INDEX_SECONDS", 0.1)
    with locked(store), pytest.raises(StoreUnavailable, match="cannot create an index"):
        open_at(tmp_path, timeout=0.1)


@pytest.mark.cloud
class TestDynamoDB:
    """What applies to DynamoDB only."""

    @pytest.fixture
    def dynamo(self, online_table: str) -> DynamoStore:
        return DynamoStore(online_table, CONTRACT, timeout=PATIENT)

    def test_a_table_of_the_previous_version_can_be_searched_and_a_run_adds_its_lists(
        self, dynamo: DynamoStore, online_table: str
    ) -> None:
        for i in range(30):
            dynamo.record(decision_at(f"t{i:02}", i, fraud=i % 10 == 0, customer=f"C{i % 5}", second=i))
        for name in ("t00", "t11"):
            dynamo.report(name, True)
        make_older(dynamo)
        older = DynamoStore(online_table, CONTRACT, timeout=PATIENT)
        assert not older.table.last_facts.listed
        expected = {
            Search(keys=("C1", None)): ["t26", "t21", "t16", "t11", "t06", "t01"],
            Search(decision="fraud"): ["t20", "t10", "t00"],
            Search(label="fraud"): ["t11", "t00"],
        }
        assert {search: walk(older, search, 2) for search in expected} == expected
        bring_up_to_date(older, {event("d", HOUR - 1): 0}, HOUR, CONTRACT)
        assert older.table.last_facts.listed
        assert {search: walk(older, search, 2) for search in expected} == expected
        assert entries(older) == {"entity": 60, "fraud": 3, "label": 2}

    def test_a_run_lists_what_a_server_of_the_previous_version_wrote_meanwhile(self, dynamo: DynamoStore) -> None:
        dynamo.record(decision_at("a"))
        dynamo.report("a", True)
        listed = dynamo.table.facts(dynamo.calls.ends()).listed
        make_older(dynamo)
        values = {":listed": {"N": str(listed)}}
        place = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
        dynamo.calls.call(
            "update_item", dynamo.calls.ends(), **dynamo.calls.update(place, "SET #listed = :listed", values)
        )
        bring_up_to_date(dynamo, {event("d", HOUR - 1): 0}, HOUR, CONTRACT)
        for search in (Search(keys=("C1", None)), Search(label="fraud")):
            assert walk(dynamo, search, 2) == ["a"]

    def test_a_page_of_a_customer_reads_only_its_decisions(self, dynamo: DynamoStore) -> None:
        for i in range(40):
            dynamo.record(decision_at(f"t{i:02}", i, customer="C1" if i % 20 == 0 else "C2", second=i))
        read: list[str] = []

        def note(params: dict[str, Any], **_: Any) -> None:
            for table in params.get("RequestItems", {}).values():
                read.extend(key["pk"]["S"] for key in table["Keys"])
            read.extend([params["IndexName"]] if "IndexName" in params else [])

        dynamo.calls.dynamodb.meta.events.register("provide-client-params.dynamodb.*", note)
        assert walk(dynamo, Search(keys=("C1", None)), 10) == ["t20", "t00"]
        assert sorted(read) == ["decision/t00", "decision/t20"]

    def test_a_decision_moves_between_lists_with_its_label(self, dynamo: DynamoStore) -> None:
        dynamo.record(decision_at("a"))
        for label in (True, False, False, True):
            dynamo.report("a", label)
            assert entries(dynamo) == {"entity": 2, "label": 1}
            assert walk(dynamo, Search(label="fraud"), 5) == (["a"] if label else [])


def entries(store: DynamoStore) -> dict[str, int]:
    """The number of items in lists, by the kind of list."""
    counts: dict[str, int] = {}
    for page in store.calls.dynamodb.get_paginator("scan").paginate(TableName=store.calls.table):
        for item in page["Items"]:
            kind, *rest = item["pk"]["S"].split("/")
            if kind == "list":
                counts[rest[1]] = counts.get(rest[1], 0) + 1
    return counts


def make_older(store: DynamoStore) -> None:
    """Make a table like those of the previous version, which had no lists."""
    dynamodb, table = store.calls.dynamodb, store.calls.table
    for page in dynamodb.get_paginator("scan").paginate(TableName=table):
        for item in page["Items"]:
            if item["pk"]["S"].startswith("list/"):
                dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("pk", "sk")})
            elif "listed" in item:
                del item["listed"]
                dynamodb.put_item(TableName=table, Item=item)
