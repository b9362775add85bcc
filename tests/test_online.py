"""The online store on SQLite: nothing lost, nothing counted twice, whoever writes at the same time or dies doing so."""

import contextlib
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import contract as contracts
from processing.contract import Contract
from processing.errors import BadInput, NotFound
from processing.features import FeatureSet
from processing.home import open_home
from processing.online import Bucket, Decision, Event, OnlineStore, StoreUnavailable, open_store
from processing.online_sqlite import SqliteStore
from processing.windows import HOUR_US, sawtooth

CONTRACT = contracts.load("transactions")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 490_000  # some hour in 2025
DELAY = 24 * CONTRACT.label_delay_days
NAMES = FeatureSet(CONTRACT).state_names
SPAWN = multiprocessing.get_context("spawn")


def event(
    name: str, hour: int = HOUR, *, customer: str = "C1", terminal: str = "T1", cents: int = 100, us: int = 0
) -> Event:
    return Event(name, hour * HOUR_US + us, cents, (customer, terminal))


def decided(what: Event) -> Decision:
    return Decision(what, "legit", 0.25, 0.5, "20260301T000000Z-abcde", b"\0" * 8, NOW)


def state(store: OnlineStore, at: Event) -> dict[str, int]:
    """What the store tells about the entities at an event, which itself counts as one."""
    return dict(zip(NAMES, store.recall(at)[1], strict=True))


def open_at(folder: Path, *, contract: Contract = CONTRACT, timeout: float = 2.0) -> SqliteStore:
    return SqliteStore(folder / "store.sqlite", contract, timeout=timeout)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_at(tmp_path)
    yield store
    store.close()


def buckets_of(events: list[Event], frauds: tuple[str, ...] = ()) -> list[list[Bucket]]:
    """The hour buckets of events, as the feature job makes them."""
    sums: dict[tuple[int, str, int], list[int]] = {}
    for e in events:
        for entity, key in enumerate(e.keys):
            row = sums.setdefault((entity, key, e.hour), [0, 0, 0, 0])
            fraud = int(e.transaction_id in frauds)
            for i, more in enumerate((1, e.amount, e.amount**2, fraud)):
                row[i] += more
    return [[Bucket(*at, *row)] for at, row in sums.items()]


def contents(store: SqliteStore) -> list[tuple[Any, ...]]:
    """All buckets, whichever refresh set them."""
    with sqlite3.connect(store.path) as db:
        return db.execute("SELECT entity, key, hour, n, s, q, f FROM buckets ORDER BY 1, 2, 3").fetchall()


def test_a_decision_is_recorded_and_its_transaction_counted_for_later_ones(store: SqliteStore) -> None:
    first = event("a", cents=250)
    assert store.recall(first)[0] is None
    assert store.record(decided(first)) == decided(first)
    assert store.recall(first)[0] == decided(first)
    assert store.decisions(5) == [decided(first)]

    same_hour, next_hour = event("b", us=1), event("b", HOUR + 1)
    for later in (same_hour, next_hour):
        seen = state(store, later)
        assert (seen["customer_n_24h"], seen["customer_s_24h"]) == (2, 350)
        assert seen["customer_q_720h"] == 250**2 + 100**2
    assert state(store, event("b", us=0))["customer_n_24h"] == 1  # at the same time: no known order
    assert state(store, event("b", HOUR + 24))["customer_n_24h"] == 1  # out of the window
    assert state(store, event("b", HOUR + 1, customer="C2"))["customer_n_24h"] == 1


def test_the_same_id_counts_once(store: SqliteStore) -> None:
    store.record(decided(event("a")))
    before = contents(store)
    other = replace(decided(event("a", cents=9)), decision="fraud")
    assert store.record(other) == decided(event("a"))
    assert contents(store) == before


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * 24), st.integers(0, 5), st.integers(0, 2), st.integers(0, 2), st.integers(0, 10**7)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_state_equals_the_offline_one(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, ...]]) -> None:
    """Arriving in the order of their times, with ties, every event sees what `sawtooth` computes for it."""
    rows = sorted(rows)
    events = [
        event(str(i), HOUR + hour, us=us, customer=f"C{c}", terminal=f"T{t}", cents=cents)
        for i, (hour, us, c, t, cents) in enumerate(rows)
    ]
    store = open_at(tmp_path_factory.mktemp("parity"))
    online = []
    for e in events:
        online.append(store.recall(e)[1])
        store.record(decided(e))
    store.close()
    times, amounts = (
        np.array(column, np.int64) for column in zip(*((e.time_us, e.amount) for e in events), strict=True)
    )
    offline = []
    for entity, windows in enumerate(FeatureSet(CONTRACT).windows.values()):
        codes = np.array([int(e.keys[entity][1:]) for e in events], np.int64)
        offline.append(sawtooth(windows, codes, times, amounts, np.zeros_like(times)))
    assert np.array_equal(np.array(online), np.concatenate(offline, axis=1))


def _add(folder: str, worker: int, count: int) -> None:
    store = open_at(Path(folder), timeout=30.0)
    for i in range(count):
        what = event(f"{worker}-{i}", customer=f"C{worker}", us=i)
        store.recall(what)
        store.record(decided(what))
    store.close()


def test_processes_adding_to_one_entity_lose_nothing(tmp_path: Path) -> None:
    """They also all open a store that none has made yet."""
    workers = [SPAWN.Process(target=_add, args=(str(tmp_path), worker, 60)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    seen = state(open_at(tmp_path), event("after", HOUR + 1))
    assert (seen["terminal_n_24h"], seen["terminal_s_24h"]) == (241, 24_100)


def test_threads_share_a_store_and_leave_no_connections_behind(store: SqliteStore) -> None:
    """A server's worker threads come and go; its open files must not grow with them."""

    def use(i: int) -> None:
        store.record(decided(event(f"t{i}", us=i)))

    for start in range(0, 60, 3):
        threads = [threading.Thread(target=use, args=(i,)) for i in range(start, start + 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert state(store, event("after", HOUR + 1))["terminal_n_24h"] == 61
    handles = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_link(name)]
    assert sum(handle == str(store.path) for handle in handles) <= 3


def _is_link(name: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{name}")  # the listing's own handle is gone by now


def _record_and_die(folder: str) -> None:
    store = open_at(Path(folder))
    store.record(decided(event("a")))
    os._exit(9)


def _die_halfway(folder: str) -> None:
    store = open_at(Path(folder))
    with store._writing() as db:
        db.execute("INSERT INTO decisions (transaction_id, time_us, amount, keys) VALUES ('b', 0, 0, '[]')")
        os._exit(9)


def _run(target: Any, folder: Path) -> int | None:
    process = SPAWN.Process(target=target, args=(str(folder),))
    process.start()
    process.join(30)
    return process.exitcode


def test_a_hard_kill_leaves_decision_and_counts_together(tmp_path: Path) -> None:
    assert _run(_record_and_die, tmp_path) == 9
    assert _run(_die_halfway, tmp_path) == 9
    store = open_at(tmp_path)
    assert [d.event.transaction_id for d in store.decisions(9)] == ["a"]
    assert state(store, event("after", us=1))["customer_n_24h"] == 2
    store.close()


@contextlib.contextmanager
def locked(store: SqliteStore) -> Iterator[None]:
    """Hold the write lock as another process would."""
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_store_says_so_in_time_and_recovers(tmp_path: Path) -> None:
    store = open_at(tmp_path, timeout=0.2)
    with locked(store):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            store.record(decided(event("a")))
        assert 0.1 < time.monotonic() - began < 1.5
        with pytest.raises(StoreUnavailable):
            store.report("a", True)
        assert store.recall(event("a"))[0] is None  # reading needs no lock
        assert open_at(tmp_path, timeout=0.2).decisions(1) == []  # nor does opening
    store.record(decided(event("a")))
    assert len(store.decisions(5)) == 1


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailable, match=r"store\.sqlite.*not a database"):
        open_at(tmp_path)


def test_a_store_belongs_to_its_contract(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    open_store(home, CONTRACT).close()
    with pytest.raises(BadInput, match="another contract"):
        open_store(home, contracts.load("handbook"))
    open_store(home, CONTRACT).close()


def test_a_closed_store_holds_no_file(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.record(decided(event("a")))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.sqlite"]  # the write-ahead log is merged


class TestReports:
    def test_counts_as_fraud_once_the_delay_is_over(self, store: SqliteStore) -> None:
        store.record(decided(event("a")))
        store.report("a", True)
        assert store.decisions(1)[0].is_fraud is True
        early, late = event("b", HOUR + DELAY), event("b", HOUR + DELAY + 1)
        assert state(store, early)["terminal_delayed_f_24h"] == 0
        seen = state(store, late)
        assert (seen["terminal_delayed_n_24h"], seen["terminal_delayed_f_24h"]) == (1, 1)

    def test_the_last_one_stands_however_often(self, store: SqliteStore) -> None:
        store.record(decided(event("a")))
        for said in (True, True, False, True, False, False):
            store.report("a", said)
            assert state(store, event("b", HOUR + DELAY + 1))["terminal_delayed_f_24h"] == int(said)
        assert store.reports().labels == {"a": False}
        assert store.reports().mark == 6

    def test_an_unknown_id_is_refused(self, store: SqliteStore) -> None:
        with pytest.raises(NotFound, match="'nobody'"):
            store.report("nobody", True)
        assert store.reports().labels == {}


class TestRefresh:
    """`data` is what the files hold up to hour HOUR; the API may have seen part of it, and later ones."""

    data = (event("d1", HOUR - 3, cents=500), event("d2", HOUR - 1, cents=700), event("d3", HOUR - 1, cents=900))
    tail = (event("d4", HOUR, us=10, cents=1100),)

    def refresh(self, store: SqliteStore, mark: int = 0) -> None:
        store.refresh(HOUR, buckets_of(list(self.data)), self.tail, mark)

    def test_sets_what_the_data_says_however_often(self, store: SqliteStore) -> None:
        store.record(decided(self.data[0]))  # counted by the API before the data came
        self.refresh(store)
        once = contents(store)
        seen = state(store, event("next", us=11))
        assert (seen["customer_n_24h"], seen["customer_s_24h"]) == (5, 500 + 700 + 900 + 1100 + 100)
        self.refresh(store)
        self.refresh(store)
        assert contents(store) == once
        assert state(store, event("next", us=11)) == seen

    def test_keeps_what_the_api_counted_after_the_horizon(self, store: SqliteStore) -> None:
        store.record(decided(event("live", HOUR, us=20, cents=1)))
        store.record(decided(event("later", HOUR + 2, cents=10)))
        self.refresh(store)
        seen = state(store, event("next", HOUR + 3))
        assert (seen["customer_n_24h"], seen["customer_s_24h"]) == (7, 500 + 700 + 900 + 1100 + 1 + 10 + 100)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_counts_tail_events_once(self, store: SqliteStore, when: str) -> None:
        """An event of the data's last hour may reach the API too, before the refresh or after it."""
        if when == "before":
            store.record(decided(self.tail[0]))
        self.refresh(store)
        if when == "after":
            store.record(decided(self.tail[0]))
        self.refresh(store)
        assert state(store, event("next", us=11))["customer_n_24h"] == 5
        assert state(store, event("next", HOUR + 1))["customer_n_24h"] == 5

    def test_drops_what_the_data_does_not_know(self, store: SqliteStore) -> None:
        store.record(decided(event("withdrawn", HOUR - 2, customer="C9", cents=333)))
        self.refresh(store)
        assert state(store, event("next", customer="C9", terminal="T9"))["customer_n_24h"] == 1

    def test_what_comes_late_is_left_to_the_data(self, store: SqliteStore) -> None:
        self.refresh(store)
        before = contents(store)
        assert store.record(decided(event("late", HOUR - 1))) == decided(event("late", HOUR - 1))
        assert contents(store) == before
        assert store.decisions(1)[0].event.transaction_id == "late"

    def test_keeps_reports_that_the_data_cannot_hold_yet(self, store: SqliteStore) -> None:
        for e in self.data:
            store.record(decided(e))
        store.report("d1", True)
        mark = store.reports().mark  # the run reads so far, ...
        store.report("d2", True)  # ... and this one comes while it runs
        store.refresh(HOUR, buckets_of(list(self.data), ("d1",)), self.tail, mark)
        late = event("next", HOUR + DELAY)
        assert state(store, late)["terminal_delayed_f_24h"] == 2
        store.report("d1", False)
        assert state(store, late)["terminal_delayed_f_24h"] == 1
        store.refresh(HOUR, buckets_of(list(self.data), ("d2",)), self.tail, store.reports().mark)
        assert state(store, late)["terminal_delayed_f_24h"] == 1

    def test_refuses_data_that_ends_earlier(self, store: SqliteStore) -> None:
        self.refresh(store)
        before = contents(store)
        with pytest.raises(BadInput, match="already holds hours up to"):
            store.refresh(HOUR - 1, buckets_of(list(self.data)), (), 0)
        assert contents(store) == before

    def test_the_api_goes_on_meanwhile(self, store: SqliteStore) -> None:
        """Between two batches of buckets a decision is recorded, and counted after the horizon."""

        def batches() -> Iterator[list[Bucket]]:
            for i, batch in enumerate(buckets_of(list(self.data))):
                store.record(decided(event(f"live{i}", HOUR + 1, us=i)))
                yield batch

        many = len(buckets_of(list(self.data)))
        store.refresh(HOUR, batches(), self.tail, 0)
        assert state(store, event("next", HOUR + 2))["customer_n_24h"] == 5 + many
