"""Troubles while requests are answered: logged once, and shown by metrics, /health/ready and the console."""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from feature_job import profiles_of
from prometheus_client.parser import text_string_to_metric_families
from serving_home import (
    TestClient,
    address_of,
    begin,
    promote,
    publish,
    row,
    running,
    server_process,
    serving_home,
    settings,
)
from structlog.testing import capture_logs
from table_home import CONTRACT as TABLES_CONTRACT
from table_home import begin as begin_with_tables

from processing.contracts import reader as contracts
from processing.durations import HOUR_US
from processing.errors import BadInput
from processing.job.store_check import store_lag
from processing.job.store_repair import refill_store
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.decisions import Event
from processing.store.interface import StoreUnavailable
from processing.store.open import STORE_KEY, open_store
from processing.store.refresh_data import SettledProfile
from processing.store.sqlite.store import SqliteStore
from serving.app import create_app
from serving.decision import store_watch
from serving.decision.embedded_metrics import EmbeddedMetrics
from serving.decision.store_watch import FEWEST_LIVE, StoreWatch
from serving.files.score_file import score_file

CONTRACT = contracts.load("transactions")
HOUR = int(time.time()) // 3600
TIMEOUT = 0.2
FILLED = {"online_profiles": 10}  # from the manifest of a run that filled the store


def fresh(**changes: Any) -> dict[str, Any]:
    return row(CONTRACT, **{"transaction_id": uuid.uuid4().hex} | changes)


def troubles(client: Any) -> dict[str, str]:
    reply = client.get("/health/ready")
    assert reply.status_code == 200  # whatever the troubles: a model is loaded
    return {trouble["name"]: trouble["message"] for trouble in reply.json()["troubles"]}


def sample(client: Any, metric: str, /, **labels: str) -> float | None:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    values = [sample.value for sample in samples if (sample.name, sample.labels) == (metric, labels)]
    return values[0] if values else None


def eventually(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def lines_of(lines: list[Any], *names: str) -> list[str]:
    return [line["event"] for line in lines if line["event"] in names]


class Disk:
    """A disk on which no commit returns while it is frozen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._moves, self.waited_for = threading.Event(), threading.Event()
        self._moves.set()
        together = SqliteStore.together

        @contextlib.contextmanager
        def slow(store: SqliteStore, *, wait: bool = True) -> Iterator[Any]:
            with together(store, wait=wait) as ledger:
                yield ledger
                self.waited_for.set()
                self._moves.wait(60)

        monkeypatch.setattr(SqliteStore, "together", slow)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self._moves.clear()
        self.waited_for.clear()
        try:
            yield
        finally:
            self._moves.set()


@pytest.mark.parametrize("without", ["refuse", "score"])
def test_requests_are_answered_while_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    serving_home(tmp_path)
    disk = Disk(monkeypatch)
    app = create_app(settings(tmp_path, store_timeout_seconds=TIMEOUT, without_store=without))
    names = ("store_unavailable", "store_unavailable_over")
    with capture_logs() as lines, running(app) as address, httpx.Client(base_url=address, timeout=20) as client:
        assert client.post("/v1/score", json=fresh()).json()["behaviour"] == "known"
        transaction = fresh()

        def score(row: dict[str, Any]) -> httpx.Response:
            with httpx.Client(base_url=address, timeout=20) as another:
                return another.post("/v1/score", json=row)

        with disk.frozen():
            with ThreadPoolExecutor(8) as callers:
                replies = [callers.submit(score, transaction)]
                assert disk.waited_for.wait(20)
                replies += [callers.submit(score, fresh()) for _ in range(7)]
                assert client.get("/health/live").status_code == 200
                codes = {reply.result().status_code for reply in replies}
            assert codes == ({503} if without == "refuse" else {200})
            began = time.monotonic()
            assert score(fresh()).status_code in codes
            assert client.post("/v1/feedback", json={"transaction_id": "x", "is_fraud": True}).status_code == 503
            assert client.get("/health/live").status_code == 200
            assert set(troubles(client)) == {"store_unavailable"}
            assert "does not answer" in client.get("/console/serving").text
            assert time.monotonic() - began < 15
            assert sample(client, "fraudline_trouble", name="store_unavailable") == 1
            assert sample(client, "fraudline_store_failures_total") == 1
            assert sample(client, "fraudline_store_refusals_total") == 10
            assert lines_of(lines, *names) == ["store_unavailable"]
        assert eventually(lambda: not troubles(client))
        again = client.post("/v1/score", json=transaction).json()
        assert again["behaviour"] == "known"
        assert again["repeated"]  # the pending decision was recorded
    assert lines_of(lines, *names) == list(names)


@pytest.mark.slow
def test_requests_are_answered_although_nobody_reads_the_log(tmp_path: Path) -> None:
    serving_home(tmp_path)
    process = server_process(tmp_path)
    try:
        address = address_of(process)
        with httpx.Client(base_url=address, timeout=30) as client:
            for number in range(600):  # more lines than a pipe holds
                transaction = fresh(transaction_id=f"{number:0200}")
                assert client.post("/v1/score", json=transaction).status_code == 200
            assert client.get("/health/live").status_code == 200
        assert process.stdout is not None
        process.terminate()
        logged = [json.loads(line) for line in process.stdout]
        assert sum(line["event"] == "decision" for line in logged) == 600  # and none was lost
    finally:
        process.kill()
        process.wait(20)


def test_the_failure_and_the_return_of_a_store_are_each_logged_once(tmp_path: Path) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=TIMEOUT))) as client:
        store = tmp_path / STORE_KEY
        away = store.with_suffix(".away")
        with capture_logs() as lines:
            store.rename(away)
            for _ in range(3):
                assert client.post("/v1/score", json=fresh()).status_code == 503
            assert set(troubles(client)) == {"store_unavailable"}
            assert not store.exists()  # no new one was created
            away.rename(store)
            assert eventually(lambda: client.post("/v1/score", json=fresh()).status_code == 200)
            assert eventually(lambda: not troubles(client))
    logged = [line for line in lines if line["event"].startswith("store_unavailable")]
    assert [line["event"] for line in logged] == ["store_unavailable", "store_unavailable_over"]
    assert "removed or replaced" in logged[0]["fault"]
    assert logged[1]["seconds"] > 0


def test_a_store_whose_file_was_deleted_is_unavailable(tmp_path: Path) -> None:
    home = begin(tmp_path)
    store = open_store(home, CONTRACT)
    (tmp_path / STORE_KEY).unlink()
    for call in (store.state, lambda: store.decisions(1), lambda: store.report("x", True)):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            call()
    store.close()


class TestLost:
    """The model comes from a run that filled the store, and the store is empty."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        home = begin(tmp_path)
        promote(home, publish(home, data=FILLED))
        return home

    @pytest.mark.parametrize("without", ["refuse", "score"])
    def test_no_decision_uses_a_lost_store(self, home: Home, tmp_path: Path, without: str) -> None:
        with capture_logs() as lines, TestClient(create_app(settings(tmp_path, without_store=without))) as client:
            reply = client.post("/v1/score", json=fresh())
            if without == "refuse":
                assert (reply.status_code, "fraudline home repair" in reply.json()["error"]["message"]) == (503, True)
            else:
                assert (reply.status_code, reply.json()["behaviour"]) == (200, "unavailable")
            assert set(troubles(client)) == {"store_lost"}
            assert "is empty" in client.get("/console/serving").text
            assert sample(client, "fraudline_trouble", name="store_lost") == 1
            fill(home)
            assert eventually(lambda: client.post("/v1/score", json=fresh()).json().get("behaviour") == "known")
            assert eventually(lambda: not troubles(client))
        assert lines_of(lines, "store_lost", "store_lost_over") == ["store_lost", "store_lost_over"]

    def test_no_file_is_scored_with_a_lost_store(self, home: Home, tmp_path: Path) -> None:
        from rich.console import Console

        path = tmp_path / "rows.csv"
        names, values = zip(*fresh().items(), strict=True)
        path.write_text("\n".join(",".join(map(str, line)) for line in (names, values)) + "\n")
        with pytest.raises(BadInput, match="is empty"):
            score_file(path, home, None, None, Console(quiet=True))

    def test_a_store_that_was_never_filled_is_not_lost(self, tmp_path: Path) -> None:
        serving_home(tmp_path / "new")
        with TestClient(create_app(settings(tmp_path / "new"))) as client:
            assert client.post("/v1/score", json=fresh()).json()["behaviour"] == "known"
            assert troubles(client) == {}

    @pytest.mark.spark
    def test_a_lost_store_is_rebuilt_from_the_tables(self, tmp_path: Path) -> None:
        home = begin_with_tables(tmp_path / "home")
        assert store_lag(home, TABLES_CONTRACT) == "it is missing, although the tables hold transactions"
        open_store(home, TABLES_CONTRACT).close()
        assert "no refresh has filled it" in store_lag(home, TABLES_CONTRACT)
        assert "profiles were set" in refill_store(home, TABLES_CONTRACT)
        assert store_lag(home, TABLES_CONTRACT) == ""


def fill(home: Home, *, days: float = 0.0, labelled: float = 0.0, broken: bool = False) -> None:
    """Refresh with data up to `days` ago and labels up to `labelled` days ago. A `broken` refresh stops halfway."""
    now_us = int(time.time() * 1e6)

    def profiles() -> Iterator[list[SettledProfile]]:
        past = Event("past", (horizon - 1) * HOUR_US, 100, ("C1", "T1"))
        yield list(profiles_of(store.plan, {past: 0}, horizon))
        if broken:
            raise InterruptedError

    store = open_store(home, CONTRACT)
    horizon, labelled_us = HOUR - int(days * 24), now_us - int(labelled * 24 * HOUR_US)
    with contextlib.suppress(InterruptedError):
        store.refresh(horizon, profiles(), [], 0, labelled_us=labelled_us)
    store.close()


def test_an_unfinished_refresh_is_a_trouble_until_one_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = serving_home(tmp_path)
    fill(home)
    with capture_logs() as lines, TestClient(create_app(settings(tmp_path))) as client:
        assert troubles(client) == {}
        fill(home, broken=True)
        time.sleep(1)
        assert troubles(client) == {}  # a refresh may take a while
        monkeypatch.setattr(store_watch, "REFRESH_SECONDS", 0.0)
        assert eventually(lambda: set(troubles(client)) == {"refresh_unfinished"})
        assert "has not finished" in client.get("/console/serving").text
        assert client.post("/v1/score", json=fresh()).status_code == 200
        fill(home)
        assert eventually(lambda: not troubles(client))
    names = ["refresh_unfinished", "refresh_unfinished_over"]
    assert lines_of(lines, *names) == names
    assert isinstance(home, LocalHome)
    fill(home, broken=True)
    assert "did not finish" in store_lag(home, CONTRACT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "labelled", "expected"),
    [
        (0, 36, set()),  # the label delay is a week, and a month is tolerated
        (0, 40, {"labels_old"}),
        (40, 0, set()),
        (50, 0, {"horizon_old"}),
        (50, 50, {"horizon_old", "labels_old"}),
    ],
)
def test_old_horizons_and_labels_are_troubles_only_while_there_is_traffic(
    tmp_path: Path, days: float, labelled: float, expected: set[str]
) -> None:
    home = serving_home(tmp_path)
    fill(home, days=days, labelled=labelled)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=fresh()).status_code == 200
        for _ in range(FEWEST_LIVE):  # transactions of last year are no traffic
            assert client.post("/v1/score", json=fresh(event_time="2025-03-01T12:00:00Z")).status_code == 200
        time.sleep(0.7)
        assert troubles(client) == {}
        for _ in range(FEWEST_LIVE):
            client.post("/v1/score", json=fresh())
        if expected:
            assert eventually(lambda: set(troubles(client)) == expected)
        time.sleep(0.7)
        assert set(troubles(client)) == expected
        assert sample(client, "fraudline_label_age_seconds") == pytest.approx(labelled * 86_400, abs=600)
        assert sample(client, "fraudline_horizon_age_seconds") == pytest.approx(days * 86_400, abs=7200)
        page = client.get("/console/serving").text
        assert (("known label is" in page), ("have runs stopped" in page)) == ("labels_old" in expected, days > 45)


def test_a_new_label_ends_the_trouble_labels_old(tmp_path: Path) -> None:
    home = serving_home(tmp_path)
    fill(home, labelled=40)
    with TestClient(create_app(settings(tmp_path))) as client:
        sent = [fresh() for _ in range(FEWEST_LIVE + 1)]
        for transaction in sent:
            client.post("/v1/score", json=transaction)
        assert eventually(lambda: set(troubles(client)) == {"labels_old"})
        feedback = {"transaction_id": sent[0]["transaction_id"], "is_fraud": False}
        assert client.post("/v1/feedback", json=feedback).status_code == 200
        assert eventually(lambda: not troubles(client))


def test_a_check_that_hangs_is_a_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving_home(tmp_path)
    moves = threading.Event()
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=TIMEOUT))) as client:
        state = SqliteStore.state
        monkeypatch.setattr(SqliteStore, "state", lambda store: moves.wait(60) and state(store))
        try:
            assert eventually(lambda: set(troubles(client)) == {"store_unavailable"})
        finally:
            moves.set()
        assert eventually(lambda: not troubles(client))


def test_embedded_metrics_contain_every_trouble(tmp_path: Path) -> None:
    from serving.decision.service import open_service

    home = serving_home(tmp_path)
    fill(home, days=2, labelled=3)
    service = open_service(settings(tmp_path))
    embedded = EmbeddedMetrics(service.metrics)
    assert "LabelAge" not in embedded.line()  # unknown before the first check
    service.watch.check()
    service.metrics.count_store_refusal()
    line = embedded.line()
    assert line["LabelAge"] == pytest.approx(3 * 86_400, abs=600)
    assert line["HorizonAge"] == pytest.approx(2 * 86_400, abs=7200)
    assert line["StoreRefusals"] == 1
    names = ("StoreUnavailable", "StoreLost", "RefreshUnfinished", "LabelsOld", "HorizonOld")
    assert {name: line[name] for name in names} == dict.fromkeys(names, 0)
    service.watch.note_failure("calls", "it is frozen")
    assert embedded.line()["StoreUnavailable"] == 1
    service.close()


def test_a_call_that_started_before_the_last_failure_is_no_recovery(tmp_path: Path) -> None:
    watch = StoreWatch(None, CONTRACT, object())  # type: ignore[arg-type]
    began = time.monotonic()
    watch.note_failure("calls", "out of reach")
    watch.note_answer("calls", began)
    assert [trouble.name for trouble in watch.troubles.active()] == ["store_unavailable"]
    watch.note_answer("calls", time.monotonic())
    assert watch.troubles.active() == []
    watch.close()
