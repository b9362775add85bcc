"""The online store on SQLite and DynamoDB: concurrent or killed writers lose nothing and count nothing twice."""

import contextlib
import multiprocessing
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.awsrequest import AWSResponse
from feature_job import bring_up_to_date, event_table, profiles_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_profiles import stored_profiles

from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.durations import HOUR_US, SECOND_US
from processing.errors import BadInput, NotFound
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
from processing.features.table_features import window_states
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.store.decisions import Decision, Event
from processing.store.dynamo.store import DynamoStore
from processing.store.interface import OnlineStore, StoreState, StoreUnavailable
from processing.store.open import open_store
from processing.store.refresh_data import SettledProfile
from processing.store.sqlite import recovery
from processing.store.sqlite.store import SqliteStore

CONTRACT = contracts.load("transactions")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 490_000  # some hour in 2025
DELAY = 24 * CONTRACT.label_delay_days
NAMES = FeatureSet(CONTRACT).state_names
PATIENT = 20.0  # seconds: the emulator shares a small machine with the tests
SPAWN = multiprocessing.get_context("spawn")


def event(
    name: str, hour: int = HOUR, *, customer: str = "C1", terminal: str = "T1", cents: int = 100, second: int = 0
) -> Event:
    return Event(name, hour * HOUR_US + second * SECOND_US, cents, (customer, terminal))


def decided(event: Event) -> Decision:
    return Decision(event, "legit", 0.25, 0.5, "20260301T000000Z-abcde", b"\0" * 8, NOW)


def state(store: OnlineStore, at: Event) -> dict[str, int]:
    """The state of an event by column name. The event itself does not count."""
    return dict(zip(NAMES, store.recall(at)[1], strict=True))


def open_at(folder: Path, *, contract: Contract = CONTRACT, timeout: float = 2.0) -> SqliteStore:
    return SqliteStore(folder / "store.sqlite", contract, timeout=timeout)


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_at(tmp_path)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", pytest.param("dynamodb", marks=pytest.mark.cloud)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home with a new online store of either kind."""
    if request.param == "sqlite":
        return open_home(tmp_path)
    request.getfixturevalue("online_table")
    return open_home("s3://a-bucket-no-store-needs")


@pytest.fixture
def store(home: Home) -> Iterator[OnlineStore]:
    store = open_store(home, CONTRACT, timeout=PATIENT)
    yield store
    store.close()


def test_a_decision_is_recorded_and_its_transaction_counted_for_later_ones(store: OnlineStore) -> None:
    first = event("a", cents=250)
    assert store.recall(first)[0] is None
    assert store.record(decided(first)) == decided(first)
    assert store.recall(first)[0] == decided(first)
    assert store.decisions(5) == [decided(first)]
    assert store.decisions(5, since=NOW - timedelta(hours=1)) == [decided(first)]
    assert store.decisions(5, since=datetime.now(UTC) + timedelta(hours=1)) == []

    same_hour, next_hour = event("b", second=1), event("b", HOUR + 1)
    for later in (same_hour, next_hour):
        seen = state(store, later)
        assert (seen["customer:n_1d"], seen["customer:s_1d"]) == (1, 250)
        assert seen["customer:q0_30d"] == 250**2
    within = replace(first, time_us=first.time_us + SECOND_US - 1)
    assert state(store, within)["customer:n_1d"] == 0  # at the same time, so their order is unknown
    assert state(store, event("b", HOUR + 24))["customer:n_1d"] == 0  # outside the window
    assert state(store, event("b", HOUR + 1, customer="C2"))["customer:n_1d"] == 0


def test_the_same_id_counts_once(store: OnlineStore) -> None:
    store.record(decided(event("a")))
    before = stored_profiles(store)
    other = replace(decided(event("a", cents=9)), decision="fraud")
    assert store.record(other) == decided(event("a"))
    assert stored_profiles(store) == before


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(*(st.integers(0, most) for most in (40 * 24, 5, 2, 2)), st.integers(-(10**12), 10**12)),
        min_size=1,
        max_size=30,
    )
)
def test_the_state_equals_the_offline_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, ...]]
) -> None:
    """For events in time order, with ties, each state is the one that the feature job computes."""
    store = open_at(tmp_path_factory.mktemp("parity"))
    replay(store, rows)
    store.close()


def replay(store: OnlineStore, rows: list[tuple[int, ...]]) -> None:
    events = [
        event(str(i), HOUR + hour, second=second, customer=f"C{c}", terminal=f"T{t}", cents=cents)
        for i, (hour, second, c, t, cents) in enumerate(sorted(rows))
    ]
    online = []
    for e in events:
        online.append(store.recall(e)[1])
        store.record(decided(e))
    table = event_table(CONTRACT, dict.fromkeys(events, 0), time="event_time")
    assert np.array_equal(np.array(online), window_states(FeatureSet(CONTRACT), table))


def _add(address: str, worker: int, count: int) -> None:
    store = open_store(open_home(address), CONTRACT, timeout=30.0)
    for i in range(count):
        payment = event(f"{worker}-{i}", customer=f"C{worker}", second=i)
        store.recall(payment)
        store.record(decided(payment))
    store.close()


@pytest.mark.slow
def test_concurrent_processes_lose_no_events_of_one_entity(home: Home) -> None:
    """They also create the store, all at the same time."""
    count = 60 if isinstance(home, LocalHome) else 15
    workers = [SPAWN.Process(target=_add, args=(home.url, worker, count)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    seen = state(open_store(home, CONTRACT, timeout=PATIENT), event("after", HOUR + 1))
    assert (seen["terminal:n_1d"], seen["terminal:s_1d"]) == (4 * count, 100 * 4 * count)


def test_threads_share_a_store_without_leaking_connections(sqlite_store: SqliteStore) -> None:
    """A server's worker threads come and go, but its open files must not accumulate."""

    def use(i: int) -> None:
        sqlite_store.record(decided(event(f"t{i}", second=i)))

    for start in range(0, 60, 3):
        threads = [threading.Thread(target=use, args=(i,)) for i in range(start, start + 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert state(sqlite_store, event("after", HOUR + 1))["terminal:n_1d"] == 60
    handles = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_link(name)]
    assert sum(handle == str(sqlite_store.path) for handle in handles) <= 3


def _is_link(name: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{name}")  # the listing's own handle is already closed


def _record_and_die(folder: str) -> None:
    store = open_at(Path(folder))
    store.record(decided(event("a")))
    os._exit(9)


def _die_halfway(folder: str) -> None:
    store = open_at(Path(folder))
    with store.connections.writing() as db:
        db.execute("INSERT INTO decisions (transaction_id, time_us, amount, keys) VALUES ('b', 0, 0, '[]')")
        os._exit(9)


def _run(target: Any, folder: Path) -> int | None:
    process = SPAWN.Process(target=target, args=(str(folder),))
    process.start()
    process.join(30)
    return process.exitcode


def test_after_a_kill_a_decision_is_recorded_and_counted_or_neither(tmp_path: Path) -> None:
    assert _run(_record_and_die, tmp_path) == 9
    assert _run(_die_halfway, tmp_path) == 9
    store = open_at(tmp_path)
    assert [d.event.transaction_id for d in store.decisions(9)] == ["a"]
    assert state(store, event("after", second=1))["customer:n_1d"] == 1
    store.close()


@contextlib.contextmanager
def locked(store: OnlineStore) -> Iterator[None]:
    """Hold the write lock as another process would."""
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_store_raises_in_time_and_recovers(tmp_path: Path) -> None:
    store = open_at(tmp_path, timeout=0.2)
    with locked(store):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            store.record(decided(event("a")))
        assert 0.1 < time.monotonic() - began < 10
        with pytest.raises(StoreUnavailable):
            store.report("a", True)
        assert store.recall(event("a"))[0] is None  # reading needs no lock
        assert open_at(tmp_path, timeout=0.2).decisions(1) == []  # nor does opening
    store.record(decided(event("a")))
    assert len(store.decisions(5)) == 1


def test_a_file_that_is_not_a_database_raises_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailable, match=r"store\.sqlite.*not a database"):
        open_at(tmp_path)


OTHER = contracts.load("handbook")
CHEAPER = contracts.parse(CONTRACT.text.replace("needless_alert = 3.0", "needless_alert = 0.5"))


def test_a_store_with_data_refuses_another_contract(home: Home) -> None:
    store = open_store(home, CONTRACT, timeout=PATIENT)
    store.record(decided(event("a")))
    store.close()
    with pytest.raises(BadInput, match="another contract"):
        open_store(home, OTHER, timeout=PATIENT)
    for contract in (CHEAPER, CONTRACT):
        open_store(home, contract, timeout=PATIENT).close()


def test_a_store_left_empty_by_a_failed_run_accepts_another_contract(home: Home) -> None:
    for contract in (OTHER, CONTRACT):
        store = open_store(home, contract, timeout=PATIENT)
        store.close()
    store.record(decided(event("a")))
    store.close()
    with pytest.raises(BadInput, match="another contract"):
        open_store(home, OTHER, timeout=PATIENT)


def remove_fingerprint(store: OnlineStore) -> None:
    """Make a store like those without fingerprints, which have only the digest of the contract's text."""
    if isinstance(store, SqliteStore):
        with sqlite3.connect(store.path) as db:
            db.execute("DELETE FROM facts WHERE name = 'fingerprint'")
    else:
        assert isinstance(store, DynamoStore)
        key = {"pk": {"S": "facts"}, "sk": {"S": "facts"}}
        request = store.calls.update(key, "REMOVE #fingerprint", {})
        del request["ExpressionAttributeValues"]
        store.calls.call("update_item", store.calls.ends(), **request)


def test_a_store_without_a_fingerprint_is_recognised_by_the_text_of_its_contract(home: Home) -> None:
    store = open_store(home, CONTRACT, timeout=PATIENT)
    store.record(decided(event("a")))
    remove_fingerprint(store)
    store.close()
    for contract in (OTHER, CHEAPER):
        with pytest.raises(BadInput, match="another contract"):
            open_store(home, contract, timeout=PATIENT)
    for contract in (CONTRACT, CHEAPER, contracts.parse(CONTRACT.text + "# changed again")):
        open_store(home, contract, timeout=PATIENT).close()
    with pytest.raises(BadInput, match="another contract"):
        open_store(home, OTHER, timeout=PATIENT)


def test_a_store_without_a_fingerprint_is_recognised_by_the_contract_of_a_run(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    store = open_store(home, CONTRACT)
    store.record(decided(event("a")))
    remove_fingerprint(store)
    store.close()
    home.write("runs/one/contract/contract.toml", CONTRACT.text.encode())
    home.write("runs/two/contract/contract.toml", OTHER.text.encode())
    open_store(home, CHEAPER).close()
    with pytest.raises(BadInput, match="another contract"):
        open_store(home, OTHER)


def test_a_model_of_another_contract_recalls_its_own_windows_from_the_same_store(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of windows and delay, while the earlier model serves on."""
    text = CONTRACT.text.replace("windows_days = [1, 7, 30]     #", "windows_days = [2, 60]     #")
    changed = contracts.parse(text.replace("delay_days = 7", "delay_days = 3"))
    monkeypatch.setattr("processing.store.open._contracts_of_models", lambda home: [CONTRACT, changed])
    store = open_store(home, CONTRACT, timeout=PATIENT)
    for days in (0, 2, 9, 40):
        store.record(decided(event(f"{days} days ago", HOUR - 24 * days)))
    store.report("9 days ago", True)
    earlier, later = (StatePlan(contract) for contract in (CONTRACT, changed))
    probe, names = event("probe", second=1), FeatureSet(changed).state_names
    theirs = store.recall(probe)[1]
    assert store.recall(probe, earlier)[1] == theirs
    own = dict(zip(names, store.recall(probe, later)[1], strict=True))
    assert (own["customer:n_2d"], own["customer:n_60d"]) == (1, 4)
    assert (own["terminal:frauds_1d"], own["terminal:frauds_7d"]) == (0, 1)
    store.close()
    store = open_store(home, changed, timeout=PATIENT)  # the home has the other contract from now on
    assert store.recall(probe)[1] == list(own.values())
    assert store.recall(probe, earlier)[1] == theirs
    store.close()


def test_a_closed_store_reopens_when_it_is_used(store: OnlineStore) -> None:
    store.record(decided(event("a")))
    store.close()
    assert store.decisions(1) == [decided(event("a"))]


def test_a_closed_store_leaves_only_the_database_file(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.record(decided(event("a")))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.sqlite"]  # the write-ahead log is merged


class TestReports:
    def test_a_reported_fraud_counts_after_the_label_delay(self, store: OnlineStore) -> None:
        store.record(decided(event("a")))
        store.report("a", True)
        assert store.decisions(1)[0].is_fraud is True
        early, late = event("b", HOUR + DELAY), event("b", HOUR + DELAY + 1)
        assert state(store, early)["terminal:frauds_1d"] == 0
        seen = state(store, late)
        assert (seen["terminal:judged_1d"], seen["terminal:frauds_1d"]) == (1, 1)

    def test_the_last_report_counts(self, store: OnlineStore) -> None:
        store.record(decided(event("a")))
        for label in (True, True, False, True, False, False):
            store.report("a", label)
            assert state(store, event("b", HOUR + DELAY + 1))["terminal:frauds_1d"] == int(label)
        assert store.reports().labels == {"a": False}
        assert store.reports().newest["a"].event == event("a")
        assert store.reports().mark == 6

    def test_an_unknown_id_is_refused(self, store: OnlineStore) -> None:
        with pytest.raises(NotFound, match="'nobody'"):
            store.report("nobody", True)
        assert store.reports().labels == {}


class TestRefresh:
    """`data` are the rows of the tables before the hour HOUR. The API may have decided some of them, and later ones."""

    data = (event("d1", HOUR - 3, cents=500), event("d2", HOUR - 1, cents=700), event("d3", HOUR - 1, cents=900))
    tail = (event("d4", HOUR, second=10, cents=1100),)

    def refresh(
        self, store: OnlineStore, *more: Event, horizon: int = HOUR, frauds: tuple[str, ...] = (), **while_it_runs: Any
    ) -> None:
        rows = {e: int(e.transaction_id in frauds) for e in (*self.data, *self.tail, *more)}
        bring_up_to_date(store, rows, horizon, CONTRACT, **while_it_runs)

    def test_repeated_refreshes_set_the_same_counts_from_the_tables(self, store: OnlineStore) -> None:
        store.record(decided(self.data[0]))  # counted by the API before a run read it
        self.refresh(store)
        once = stored_profiles(store)
        seen = state(store, event("next", second=11))
        assert (seen["customer:n_1d"], seen["customer:s_1d"]) == (4, 500 + 700 + 900 + 1100)
        self.refresh(store)
        self.refresh(store)
        assert stored_profiles(store) == once
        assert state(store, event("next", second=11)) == seen

    def test_the_store_state_shows_its_horizon_and_whether_a_refresh_is_complete(self, store: OnlineStore) -> None:
        assert store.state() == StoreState(False, 0, 0, None)
        began = time.time_ns() // 1000

        def interrupted() -> Iterator[list[SettledProfile]]:
            yield list(profiles_of(store.plan, {event("d", HOUR - 1): 0}, HOUR))
            raise InterruptedError

        for labelled_us in (7, 9):  # the first refresh, and one of a complete store
            with pytest.raises(InterruptedError):
                store.refresh(HOUR, interrupted(), [], 0, labelled_us=labelled_us)
            filled, horizon_us, _, since, basis = store.state()
            assert (filled, horizon_us, basis) == (True, HOUR * HOUR_US, "")
            assert since is not None
            assert began <= since <= time.time_ns() // 1000
            store.refresh(HOUR, [], [], 0, labelled_us=labelled_us, basis=f"basis {labelled_us}")
            assert store.state() == StoreState(True, HOUR * HOUR_US, labelled_us, None, f"basis {labelled_us}")
        store.record(decided(event("labelled", HOUR)))
        store.report("labelled", False)
        assert store.state().labelled_us == event("labelled", HOUR).time_us
        store.refresh(HOUR, [], [], 0, labelled_us=11)
        assert store.state().labelled_us == event("labelled", HOUR).time_us

    def test_after_a_killed_refresh_the_next_one_sets_what_it_left(self, store: OnlineStore) -> None:
        """Meanwhile each profile is of the one refresh or the other."""
        self.refresh(store, horizon=HOUR - 2)
        store.record(decided(event("lacking", HOUR - 1, cents=50)))
        store.report("lacking", True)

        def kill(batch: int) -> None:
            if batch == 1:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            self.refresh(store, between=kill)
        store.record(decided(event("live", HOUR, second=20, cents=1)))
        for key in ("lacking", "live"):
            store.report(key, True)
        seen, late = event("next", HOUR + 1), event("next", HOUR + DELAY + 1)
        assert state(store, seen)["customer:n_1d"] == state(store, seen)["terminal:n_1d"] == 6
        assert store.state().basis == ""
        self.refresh(store)
        assert state(store, seen)["customer:n_1d"] == state(store, seen)["terminal:n_1d"] == 6
        assert state(store, late)["terminal:frauds_1d"] == 2

    def test_a_refresh_keeps_what_the_api_counted_after_the_horizon(self, store: OnlineStore) -> None:
        store.record(decided(event("live", HOUR, second=20, cents=1)))
        store.record(decided(event("later", HOUR + 2, cents=10)))
        self.refresh(store)
        seen = state(store, event("next", HOUR + 3))
        assert (seen["customer:n_1d"], seen["customer:s_1d"]) == (6, 500 + 700 + 900 + 1100 + 1 + 10)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_tail_events_count_once(self, store: OnlineStore, when: str) -> None:
        """An event of the last hours in the tables may also reach the API, before the refresh or after it."""
        if when == "before":
            store.record(decided(self.tail[0]))
        self.refresh(store)
        if when == "after":
            store.record(decided(self.tail[0]))
        self.refresh(store)
        assert state(store, event("next", second=11))["customer:n_1d"] == 4
        assert state(store, event("next", HOUR + 1))["customer:n_1d"] == 4

    def test_future_events_count_once_from_their_time_on(self, store: OnlineStore) -> None:
        """A row with a wrong clock stays beyond the horizon of several runs."""
        ahead = event("ahead", HOUR + 20, cents=3)
        for horizon in (HOUR, HOUR + 1, HOUR + 2):
            self.refresh(store, ahead, horizon=horizon)
            for i in range(5):
                store.record(decided(event(f"{horizon}-{i}", horizon + 1, second=i)))
        assert state(store, event("next", HOUR + 4))["customer:n_1d"] == 4 + 15
        for horizon in (HOUR + 2, HOUR + 20, HOUR + 21):
            seen = state(store, event("next", HOUR + 21))
            assert (seen["customer:n_30d"], seen["customer:s_30d"]) == (4 + 15 + 1, 3200 + 1500 + 3)
            self.refresh(store, ahead, horizon=horizon)

    def test_a_refresh_keeps_decided_transactions_that_the_tables_lack(self, store: OnlineStore) -> None:
        """A second source is late: what the API counted of it stays counted, and counts once when its rows arrive."""
        second = [event(f"s{i}", HOUR - 2, second=i, cents=10) for i in range(3)]
        for e in second:
            store.record(decided(e))
        store.report("s0", True)
        for more in ((), (), (second[0],), second, second):
            self.refresh(store, *more)
            seen = state(store, event("next", second=11))
            assert (seen["customer:n_1d"], seen["customer:s_1d"]) == (7, 3200 + 30)
            assert state(store, event("next", HOUR + DELAY))["terminal:frauds_1d"] == 1

    def test_a_row_of_the_tables_replaces_a_different_transaction_decided_with_its_id(self, store: OnlineStore) -> None:
        for hour in (HOUR - 2, HOUR + 1):
            store.record(decided(event(f"at {hour}", hour, customer="C7", terminal="T7", cents=3)))
            store.report(f"at {hour}", True)
        self.refresh(store)
        assert state(store, event("next", HOUR + 2, customer="C7"))["customer:n_1d"] == 2
        self.refresh(store, event(f"at {HOUR - 2}", HOUR - 2), event(f"at {HOUR + 1}", HOUR, second=3))
        other = state(store, event("next", HOUR + DELAY + 2, customer="C7", terminal="T7"))
        assert (other["customer:n_30d"], other["terminal:frauds_30d"]) == (0, 0)
        assert state(store, event("next", HOUR + 2))["customer:n_1d"] == 4 + 2
        store.report(f"at {HOUR + 1}", False)
        store.report(f"at {HOUR - 2}", True)
        assert state(store, event("next", HOUR + DELAY + 2, customer="C7", terminal="T7")) == other

    def test_a_report_of_a_displaced_decision_changes_no_label(self, store: OnlineStore) -> None:
        """A fraud of the tables has the id; the transaction decided and reported under that id is a different one."""
        self.refresh(store, frauds=("d1", "d4"))
        late = event("next", HOUR + DELAY + 1)
        store.record(decided(event("d1", HOUR - 3, terminal="T8")))
        store.record(decided(event("d4", HOUR, second=10, cents=1)))
        for _ in range(2):
            for key in ("d1", "d4"):
                store.report(key, False)
            assert state(store, late)["terminal:frauds_1d"] == 2
            assert state(store, replace(late, keys=("C1", "T8")))["terminal:frauds_30d"] == 0
            self.refresh(store, frauds=("d1", "d4"))
        assert {key: report.event.amount for key, report in store.reports().newest.items()} == {"d1": 100, "d4": 1}

    def test_a_late_transaction_is_counted_by_the_next_run(self, store: OnlineStore) -> None:
        self.refresh(store)
        before = stored_profiles(store)
        assert store.record(decided(event("late", HOUR - 1))) == decided(event("late", HOUR - 1))
        store.report("late", True)
        assert stored_profiles(store) == before
        assert store.decisions(1)[0].event.transaction_id == "late"
        self.refresh(store)
        assert state(store, event("next", second=11))["customer:n_1d"] == 5
        assert state(store, event("next", HOUR + DELAY))["terminal:frauds_1d"] == 1

    def test_a_refresh_keeps_reports_that_are_newer_than_the_tables(self, store: OnlineStore) -> None:
        for e in self.data:
            store.record(decided(e))
        store.report("d1", True)
        self.refresh(store, meanwhile=lambda: store.report("d2", True))
        late = event("next", HOUR + DELAY)
        assert state(store, late)["terminal:frauds_1d"] == 2
        store.report("d1", False)
        assert state(store, late)["terminal:frauds_1d"] == 1
        self.refresh(store)
        assert state(store, late)["terminal:frauds_1d"] == 1

    def test_a_report_of_a_known_fraud_does_not_count_it_again(self, store: OnlineStore) -> None:
        late = event("next", HOUR + DELAY + 1)
        known = ("d1", "d4")
        self.refresh(store, frauds=known)
        for e in (*self.data, *self.tail):
            store.record(decided(e))
        assert state(store, late)["terminal:frauds_1d"] == 2
        for label, frauds in ((True, 2), (True, 2), (False, 0), (False, 0), (True, 2)):
            for name in known:
                store.report(name, label)
            assert state(store, late)["terminal:frauds_1d"] == frauds
        store.report("d2", True)  # the tables may have another transaction; the next run finds out
        assert state(store, late)["terminal:frauds_1d"] == 2
        self.refresh(store, frauds=known)
        assert state(store, late)["terminal:frauds_1d"] == 3

    @pytest.mark.slow
    def test_the_horizon_can_move_back(self, store: OnlineStore) -> None:
        """After a row with a wrong clock had moved the horizon ahead, everything left out meanwhile is counted."""
        ahead = event("ahead", HOUR + 20)
        store.record(decided(event("first", HOUR + 1)))
        store.report("first", True)
        self.refresh(store, ahead, horizon=HOUR + 20)
        for i in range(3):
            store.record(decided(event(f"left out {i}", HOUR + 2, second=i)))
        store.record(decided(event("beyond", HOUR + 21)))
        self.refresh(store, ahead, horizon=HOUR)
        assert state(store, event("next", HOUR + 3))["customer:n_1d"] == 4 + 1 + 3
        for i in range(3):
            store.record(decided(event(f"counted {i}", HOUR + 3, second=i)))
        assert state(store, event("next", HOUR + 3, second=9))["customer:n_1d"] == 4 + 1 + 3 + 3
        seen = state(store, event("next", HOUR + 22))
        assert seen["customer:n_30d"] == 4 + 1 + 3 + 3 + 2
        for horizon in (HOUR, HOUR + 3, HOUR + 20, HOUR - 1):
            self.refresh(store, ahead, horizon=horizon)
            assert state(store, event("next", HOUR + 22)) == seen
            assert state(store, event("next", HOUR + DELAY + 3))["terminal:frauds_1d"] == 1

    def test_decisions_go_on_during_a_refresh(self, store: OnlineStore) -> None:
        """A decision recorded between two batches of buckets counts after the horizon."""
        live: list[int] = []

        def decide(batch: int) -> None:
            live.append(batch)
            store.record(decided(event(f"live{batch}", HOUR + 1, second=batch)))

        self.refresh(store, between=decide)
        assert live
        assert state(store, event("next", HOUR + 2))["customer:n_1d"] == 4 + len(live)

    @pytest.mark.slow
    @pytest.mark.parametrize("before", [HOUR - 1, HOUR + 5])
    def test_decisions_made_while_a_run_reads_are_counted(self, store: OnlineStore, before: int) -> None:
        """Before its horizon or after it, whether the horizon moves on or back."""
        self.refresh(store, horizon=before)

        def decide(*_: int) -> None:
            store.record(decided(event(f"late{time.time_ns()}", HOUR - 1, second=1)))
            store.record(decided(event(f"live{time.time_ns()}", HOUR + 1, second=1)))

        self.refresh(store, meanwhile=decide)
        assert state(store, event("next", HOUR + 2))["customer:n_1d"] in (5, 6)
        self.refresh(store)
        assert state(store, event("next", HOUR + 2))["customer:n_1d"] == 6


@pytest.mark.cloud
class TestDynamoDB:
    """What applies to DynamoDB only."""

    @pytest.fixture
    def dynamo(self, online_table: str) -> DynamoStore:
        return DynamoStore(online_table, CONTRACT, timeout=PATIENT)

    @pytest.fixture
    def calls(self, dynamo: DynamoStore) -> list[str]:
        """The calls that the store sends."""
        sent: list[str] = []
        events = dynamo.calls.dynamodb.meta.events
        events.register("before-send.dynamodb", lambda event_name, **_: sent.append(event_name.rsplit(".", 1)[1]))
        return sent

    def test_a_decision_takes_two_calls(self, dynamo: DynamoStore, calls: list[str]) -> None:
        for i in range(3):
            payment = event(f"e{i}", second=3_000 + i)
            dynamo.recall(payment)
            dynamo.record(decided(payment))
        assert calls == ["BatchGetItem", "TransactWriteItems"] * 3

    def test_no_decision_takes_more_than_three_calls(
        self, dynamo: DynamoStore, calls: list[str], online_table: str
    ) -> None:
        other = DynamoStore(online_table, CONTRACT, timeout=PATIENT)

        def decide(payment: Event, meanwhile: Any) -> Decision:
            calls.clear()
            dynamo.recall(payment)
            meanwhile()
            decision = dynamo.record(decided(payment))
            assert len(calls) <= 3
            return decision

        twice = replace(decided(event("twice")), decision="fraud")
        assert decide(event("twice"), lambda: other.record(twice)) == twice
        late, tail = event("late", HOUR - 1), event("tail", HOUR, second=5)
        rows = {event("d", HOUR - 1, second=9): 0, tail: 0}
        decide(late, lambda: bring_up_to_date(other, rows, HOUR, CONTRACT))
        assert state(dynamo, event("next", HOUR, second=9))["customer:n_1d"] == 3  # twice, d and tail
        decide(tail, lambda: None)
        assert state(dynamo, event("next", HOUR, second=9))["customer:n_1d"] == 3

    @pytest.mark.parametrize("seed", range(2))
    def test_the_state_equals_the_offline_one(self, dynamo: DynamoStore, seed: int) -> None:
        random = np.random.default_rng(seed)
        columns = [random.integers(0, high, 40) for high in (40 * 24, 6, 2, 2, 10**7)]
        columns[0][:15] = 100  # one busy hour
        replay(dynamo, [tuple(map(int, row)) for row in zip(*columns, strict=True)])

    def test_long_and_unusual_ids_are_accepted(self, dynamo: DynamoStore) -> None:
        for name in ("x" * 3000, "a/b#c d", "Größe"):
            payment = event(name, customer=name)
            assert dynamo.record(decided(payment)) == decided(payment)
            assert dynamo.recall(payment)[0] == decided(payment)
            assert state(dynamo, event("next", HOUR + 1, customer=name))["customer:n_1d"] == 1

    def test_floats_are_stored_bit_for_bit(self, dynamo: DynamoStore) -> None:
        decision = replace(decided(event("a")), score=0.1 + 0.2, threshold=1e-300)
        dynamo.record(decision)
        assert dynamo.recall(event("a"))[0] == decision

    def test_an_unreachable_table_raises_in_time(self, online_table: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts the connection and never responds
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{silent.getsockname()[1]}")
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=f"table {online_table}.* does not answer in time"):
                DynamoStore(online_table, CONTRACT, timeout=1.0)
            assert time.monotonic() - began < 10

    def test_throttling_raises_in_time(self, online_table: str) -> None:
        store = DynamoStore(online_table, CONTRACT, timeout=PATIENT)
        store.calls.timeout = 1.0
        body = b'{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "too fast"}'
        answer = AWSResponse("https://dynamodb", 400, {}, RawResponse(body))
        store.calls.dynamodb.meta.events.register("before-send.dynamodb", lambda **_: answer)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="ThrottlingException"):
            store.record(decided(event("a")))
        assert 0.3 < time.monotonic() - began < 10

    def test_the_error_for_a_missing_table_names_it(self, online_table: str) -> None:
        with pytest.raises(StoreUnavailable, match=r"no-such-table\) refused.*check its name"):
            DynamoStore("no-such-table", CONTRACT, timeout=PATIENT)

    def test_reports_during_a_refresh_are_counted(self, dynamo: DynamoStore, online_table: str) -> None:
        other = DynamoStore(online_table, CONTRACT, timeout=PATIENT)
        data = [event("d1", HOUR - 3), event("d2", HOUR - 2)]
        for e in data:
            other.record(decided(e))

        def report(batch: int) -> None:
            if batch == 1:
                other.report("d1", True)
                other.report("d2", True)
                other.report("d2", False)

        bring_up_to_date(dynamo, dict.fromkeys(data, 0), HOUR, CONTRACT, between=report)
        assert state(other, event("next", HOUR + DELAY))["terminal:frauds_1d"] == 1
        other.report("d1", True)
        assert state(other, event("next", HOUR + DELAY))["terminal:frauds_1d"] == 1
        other.report("d1", False)
        assert state(other, event("next", HOUR + DELAY))["terminal:frauds_1d"] == 0
        assert other.reports().mark == 5


class RawResponse:
    """A response body as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.body


def test_the_error_for_a_store_that_is_too_old_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path, CONTRACT).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE decisions DROP COLUMN reasons")
    with pytest.raises(BadInput, match="move it away"):
        SqliteStore(path, CONTRACT)


EARLIER_TABLES = """
CREATE TABLE buckets (entity INTEGER, key TEXT, hour INTEGER, n INTEGER, s INTEGER, q INTEGER, f INTEGER, g INTEGER,
    refresh INTEGER, PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
CREATE TABLE ticks (entity INTEGER, key TEXT, time_us INTEGER, n INTEGER, s INTEGER, q INTEGER,
    PRIMARY KEY (entity, key, time_us)) WITHOUT ROWID;
CREATE TABLE labels (transaction_id TEXT, content TEXT, time_us INTEGER, fraud INTEGER,
    PRIMARY KEY (transaction_id, content)) WITHOUT ROWID;
CREATE TABLE reported (entity INTEGER, key TEXT, hour INTEGER, f INTEGER, g INTEGER,
    PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
INSERT INTO buckets VALUES (0, 'C1', 489999, 1, 100, 10000, 0, 0, 1);
DROP TABLE profiles;
DROP TABLE tail;
CREATE TABLE tail (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID;
INSERT INTO tail VALUES ('ahead', '[1764032400000000, 100, "C1", "T1"]');
ALTER TABLE decisions DROP COLUMN extras;
DELETE FROM facts WHERE name IN ('basis', 'plan', 'migrated');
"""


def make_older(store: OnlineStore) -> None:
    """Make a store like those of the previous version, which counted in hours."""
    if isinstance(store, SqliteStore):
        with contextlib.closing(sqlite3.connect(store.path)) as db:
            db.executescript(EARLIER_TABLES)
        return
    assert isinstance(store, DynamoStore)
    dynamodb, table = store.calls.dynamodb, store.calls.table
    items = {(item["pk"]["S"], item["sk"]["S"]): item for item in dynamodb.scan(TableName=table)["Items"]}
    progress = items["refresh", "refresh"]
    kept = {name: progress[name] for name in ("horizon", "refresh", "began", "done", "done_horizon", "read", "pending")}
    items["facts", "facts"] |= kept | {"era": {"N": "0"}}
    for (_, sk), item in items.items():
        if sk in ("profile", "shard", "refresh"):
            dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
        else:
            item.pop("extras", None)
            row = item.pop("row", None)
            counted = {"tail": {"N": str(HOUR + 9)}, "content": {"S": "0"}} if row else {}
            counted |= {"era": {"N": "0"}} if row or "recorded" in item else {}
            dynamodb.put_item(TableName=table, Item=item | counted)
    hours = {"n3": {"N": "9"}, "s3": {"N": "9"}, "q3": {"N": "9"}, "refresh": {"N": "1"}}
    day = {"pk": {"S": f"day/0/C1/{HOUR // 24}"}, "sk": {"S": "hours"}}
    dynamodb.put_item(TableName=table, Item=day | hours)


def test_decisions_of_a_damaged_store_of_the_previous_version_are_kept(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.record(decided(event("a")))
    store.report("a", True)
    bring_up_to_date(store, {event("d", HOUR - 1): 0}, HOUR, CONTRACT)
    store.close()
    assert recovery.refresh_status(store.path) == (True, True)
    make_older(store)
    assert recovery.refresh_status(store.path) == (False, False)
    assert list(recovery.readable_decisions(store.path)) == [decided(event("a"))]
    assert list(recovery.readable_reports(store.path)) == [("a", True)]


@pytest.mark.slow
def test_a_store_of_the_previous_version_can_be_used(home: Home) -> None:
    """Its horizon may lie ahead, and it may not have counted decisions before that."""
    store = open_store(home, CONTRACT, timeout=PATIENT)
    data = [event(f"d{i}", HOUR - i, second=i) for i in range(4)]
    rows: dict[Event, int | None] = dict.fromkeys(data, None) | {event("ahead", HOUR + 9): 0}
    for e in (data[0], data[1], event("live", HOUR + 10)):
        store.record(decided(e))
        store.report(e.transaction_id, True)
    bring_up_to_date(store, rows, HOUR + 9, CONTRACT)
    store.record(decided(event("left out", HOUR + 1)))
    store.close()
    make_older(store)

    store = open_store(home, CONTRACT, timeout=PATIENT)
    assert store.state() == StoreState(False, 0, store.state().labelled_us, None)
    assert len(store.decisions(9)) == 4
    store.record(decided(event("ahead", HOUR + 9)))
    store.report("live", True)  # once more
    seen = state(store, event("next", HOUR + 10 + DELAY + 1))
    assert (seen["terminal:judged_1d"], seen["terminal:frauds_1d"]) == (1, 0)  # what is counted since
    assert {key: report.event.hour for key, report in store.reports().newest.items()} == {
        "d0": HOUR,
        "d1": HOUR - 1,
        "live": HOUR + 10,
    }
    for _ in range(2):
        bring_up_to_date(store, rows, HOUR, CONTRACT)
        assert store.state().filled
        assert state(store, event("next", HOUR + 11))["customer:n_1d"] == 4 + 3
        assert state(store, event("next", HOUR + 10 + DELAY + 1))["terminal:frauds_1d"] == 3
    store.report("live", False)
    assert state(store, event("next", HOUR + 10 + DELAY + 1))["terminal:frauds_1d"] == 2
    store.close()
