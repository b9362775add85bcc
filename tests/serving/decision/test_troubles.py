"""What is amiss while requests are answered is told: in the log once, in the metrics, to who asks, in the console."""

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
from processing.errors import BadInput
from processing.features.windows import HOUR_US
from processing.job.store_repair import refilled, store_lag
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.interface import StoreUnavailable
from processing.store.open import STORE_KEY, open_store
from processing.store.refresh_data import Bucket
from processing.store.sqlite.store import SqliteStore
from serving.app import create_app
from serving.decision import store_watch
from serving.decision.embedded_metrics import EmbeddedMetrics
from serving.decision.store_watch import FEWEST_LIVE, StoreWatch
from serving.files.score_file import score_file

CONTRACT = contracts.load("transactions")
HOUR = int(time.time()) // 3600
TIMEOUT = 0.2
FILLED = {"online_buckets": 10}  # of a run, as the manifest of its model says


def fresh(**changes: Any) -> dict[str, Any]:
    return row(CONTRACT, **{"transaction_id": uuid.uuid4().hex} | changes)


def troubles(client: Any) -> dict[str, str]:
    reply = client.get("/health/ready")
    assert reply.status_code == 200  # whatever is amiss: a model is loaded
    return {one["name"]: one["message"] for one in reply.json()["troubles"]}


def sample(client: Any, sought: str, **labels: str) -> float | None:
    found = text_string_to_metric_families(client.get("/metrics").text)
    values = [one.value for family in found for one in family.samples if (one.name, one.labels) == (sought, labels)]
    return values[0] if values else None


def eventually(happens: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 30
    while not happens():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def lines_of(lines: list[Any], *names: str) -> list[str]:
    return [line["event"] for line in lines if line["event"] in names]


class Disk:
    """A disk on which a commit does not return while it is frozen."""

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
def test_a_disk_that_freezes_stops_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str) -> None:
    serving_home(tmp_path)
    disk = Disk(monkeypatch)
    app = create_app(settings(tmp_path, store_timeout_seconds=TIMEOUT, without_store=without))
    names = ("store_unavailable", "store_unavailable_over")
    with capture_logs() as lines, running(app) as address, httpx.Client(base_url=address, timeout=20) as client:
        assert client.post("/v1/score", json=fresh()).json()["behaviour"] == "known"
        sent = fresh()

        def score(row: dict[str, Any]) -> httpx.Response:
            with httpx.Client(base_url=address, timeout=20) as another:
                return another.post("/v1/score", json=row)

        with disk.frozen():
            with ThreadPoolExecutor(8) as callers:
                replies = [callers.submit(score, sent)]
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
        again = client.post("/v1/score", json=sent).json()
        assert again["behaviour"] == "known"
        assert again["repeated"]  # what was under way was recorded, whole
    assert lines_of(lines, *names) == list(names)


def test_a_log_that_nobody_reads_stops_no_answer(tmp_path: Path) -> None:
    serving_home(tmp_path)
    process = server_process(tmp_path)
    try:
        address = address_of(process)
        with httpx.Client(base_url=address, timeout=30) as client:
            for number in range(600):  # more lines than a pipe holds
                sent = fresh(transaction_id=f"{number:0200}")
                assert client.post("/v1/score", json=sent).status_code == 200
            assert client.get("/health/live").status_code == 200
        assert process.stdout is not None
        process.terminate()
        logged = [json.loads(line) for line in process.stdout]
        assert sum(line["event"] == "decision" for line in logged) == 600  # none was lost either
    finally:
        process.kill()
        process.wait(20)


def test_a_store_that_does_not_answer_is_told_once_and_so_is_its_return(tmp_path: Path) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=TIMEOUT))) as client:
        store = tmp_path / STORE_KEY
        away = store.with_suffix(".away")
        with capture_logs() as lines:
            store.rename(away)
            for _ in range(3):
                assert client.post("/v1/score", json=fresh()).status_code == 503
            assert set(troubles(client)) == {"store_unavailable"}
            assert not store.exists()  # it did not begin anew
            away.rename(store)
            assert eventually(lambda: client.post("/v1/score", json=fresh()).status_code == 200)
            assert eventually(lambda: not troubles(client))
    told = [line for line in lines if line["event"].startswith("store_unavailable")]
    assert [line["event"] for line in told] == ["store_unavailable", "store_unavailable_over"]
    assert "removed or replaced" in told[0]["fault"]
    assert told[1]["seconds"] > 0


def test_what_was_in_a_store_that_is_gone_is_not_written_beside_it(tmp_path: Path) -> None:
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
    def test_nothing_is_answered_as_known(self, home: Home, tmp_path: Path, without: str) -> None:
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

    def test_a_file_is_not_scored_against_it(self, home: Home, tmp_path: Path) -> None:
        from rich.console import Console

        path = tmp_path / "rows.csv"
        names, values = zip(*fresh().items(), strict=True)
        path.write_text("\n".join(",".join(map(str, line)) for line in (names, values)) + "\n")
        with pytest.raises(BadInput, match="is empty"):
            score_file(path, home, None, None, Console(quiet=True))

    def test_a_home_that_was_never_filled_has_lost_nothing(self, tmp_path: Path) -> None:
        serving_home(tmp_path / "new")
        with TestClient(create_app(settings(tmp_path / "new"))) as client:
            assert client.post("/v1/score", json=fresh()).json()["behaviour"] == "known"
            assert troubles(client) == {}

    @pytest.mark.spark
    def test_it_is_made_anew_from_the_tables(self, tmp_path: Path) -> None:
        home = begin_with_tables(tmp_path / "home")
        assert store_lag(home, TABLES_CONTRACT) == "it is missing, although the tables hold transactions"
        open_store(home, TABLES_CONTRACT).close()
        assert "it is empty" in store_lag(home, TABLES_CONTRACT)
        assert "counters were set" in refilled(home, TABLES_CONTRACT)
        assert store_lag(home, TABLES_CONTRACT) == ""


def fill(home: Home, *, days: float = 0.0, labelled: float = 0.0, broken: bool = False) -> None:
    """A refresh whose data ends so many days ago, with labels up to then; or one that ends halfway."""
    now_us = int(time.time() * 1e6)

    def buckets() -> Iterator[list[Bucket]]:
        yield [Bucket(0, "C1", HOUR - 2000, 1, 100, 10_000, 0, 0)]
        if broken:
            raise InterruptedError

    store = open_store(home, CONTRACT)
    horizon, labelled_us = HOUR - int(days * 24), now_us - int(labelled * 24 * HOUR_US)
    with contextlib.suppress(InterruptedError):
        store.refresh(horizon, buckets(), [], 0, labelled_us=labelled_us)
    store.close()


def test_a_refresh_that_ended_halfway_is_told_until_one_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(
    ("days", "labelled", "found"),
    [
        (0, 36, set()),  # labels take a week by the contract, and a month is let pass
        (0, 40, {"labels_old"}),
        (40, 0, set()),
        (50, 0, {"horizon_old"}),
        (50, 50, {"horizon_old", "labels_old"}),
    ],
)
def test_what_no_run_and_no_label_reached_for_long_is_told_while_there_is_traffic(
    tmp_path: Path, days: float, labelled: float, found: set[str]
) -> None:
    home = serving_home(tmp_path)
    fill(home, days=days, labelled=labelled)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=fresh()).status_code == 200
        for _ in range(FEWEST_LIVE):  # made-up transactions of last year
            assert client.post("/v1/score", json=fresh(event_time="2025-03-01T12:00:00Z")).status_code == 200
        time.sleep(0.7)
        assert troubles(client) == {}
        for _ in range(FEWEST_LIVE):
            client.post("/v1/score", json=fresh())
        if found:
            assert eventually(lambda: set(troubles(client)) == found)
        time.sleep(0.7)
        assert set(troubles(client)) == found
        assert sample(client, "fraudline_label_age_seconds") == pytest.approx(labelled * 86_400, abs=600)
        assert sample(client, "fraudline_horizon_age_seconds") == pytest.approx(days * 86_400, abs=7200)
        page = client.get("/console/serving").text
        assert (("known label is" in page), ("have runs stopped" in page)) == ("labels_old" in found, days > 45)


def test_a_report_makes_labels_young_again(tmp_path: Path) -> None:
    home = serving_home(tmp_path)
    fill(home, labelled=40)
    with TestClient(create_app(settings(tmp_path))) as client:
        sent = [fresh() for _ in range(FEWEST_LIVE + 1)]
        for one in sent:
            client.post("/v1/score", json=one)
        assert eventually(lambda: set(troubles(client)) == {"labels_old"})
        told = {"transaction_id": sent[0]["transaction_id"], "is_fraud": False}
        assert client.post("/v1/feedback", json=told).status_code == 200
        assert eventually(lambda: not troubles(client))


def test_a_look_that_does_not_return_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_metrics_for_cloudwatch_have_every_trouble(tmp_path: Path) -> None:
    from serving.decision.service import open_service

    home = serving_home(tmp_path)
    fill(home, days=2, labelled=3)
    service = open_service(settings(tmp_path))
    embedded = EmbeddedMetrics(service.metrics)
    assert "LabelAge" not in embedded.line()  # not known before the first look
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


def test_a_call_that_began_before_the_last_failure_is_no_recovery(tmp_path: Path) -> None:
    watch = StoreWatch(None, CONTRACT, object())  # type: ignore[arg-type]
    began = time.monotonic()
    watch.note_failure("calls", "out of reach")
    watch.note_answer("calls", began)
    assert [one.name for one in watch.troubles.active()] == ["store_unavailable"]
    watch.note_answer("calls", time.monotonic())
    assert watch.troubles.active() == []
    watch.close()
