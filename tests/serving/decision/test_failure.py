"""Failures of server, store and disk: no answered decision is lost, none counts twice, no request hangs."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from serving_home import TestClient, address_of, row, running, server_process, serving_home, settings

from pipeline.registry.registry import Registry
from processing.contracts import reader as contracts
from processing.durations import HOUR_US
from processing.errors import Conflict
from processing.features.feature_set import FeatureSet
from processing.storage.open import open_home
from processing.store.decisions import Event
from processing.store.interface import StoreBusy, StoreUnavailable
from processing.store.open import open_store
from processing.store.sqlite.store import SqliteStore
from serving.app import create_app
from serving.decision.decider import Answer, Decider, DecisionRequest
from serving.decision.group_commit import GroupCommit
from serving.decision.loaded_model import LoadedModel, load_model
from serving.logs import LineWriter

CONTRACT = contracts.load("transactions")
FEATURES = FeatureSet(CONTRACT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    serving_home(tmp_path)
    return tmp_path


def fresh(**changes: Any) -> dict[str, Any]:
    """A new transaction."""
    return row(CONTRACT, **{"transaction_id": uuid.uuid4().hex} | changes)


def counted(folder: Path, terminal: str) -> int:
    """How many transactions of the last day the store counts for a terminal."""
    store = open_store(open_home(folder), CONTRACT)
    later = int((datetime.now(UTC) + timedelta(hours=2)).timestamp() * 1e6)
    _, state = store.recall(Event("later", later, 0, ("nobody", terminal)))
    store.close()
    return dict(zip(FEATURES.state_names, state, strict=True))["terminal:n_1d"]


@pytest.mark.slow
def test_killing_a_busy_server_loses_no_decision_and_counts_none_twice(folder: Path) -> None:
    process = server_process(folder, stdout=subprocess.DEVNULL)
    transaction = [fresh(terminal_id="busy", customer_id=f"C{i % 7}") for i in range(3000)]
    answers: dict[str, dict[str, Any]] = {}
    attempts: list[dict[str, Any]] = []

    def call(mine: list[dict[str, Any]]) -> None:
        # The first response waits until the model is loaded and, on a new machine, compiled by Numba.
        with httpx.Client(base_url=address, timeout=60) as client, contextlib.suppress(httpx.TransportError):
            for request in mine:
                attempts.append(request)
                answers[request["transaction_id"]] = client.post("/v1/score", json=request).raise_for_status().json()

    try:
        address = address_of(process)
        with ThreadPoolExecutor(8) as callers:
            calls = [callers.submit(call, transaction[i::8]) for i in range(8)]
            deadline = time.monotonic() + 60
            while len(answers) < 80 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            for done in calls:
                done.result()
    finally:
        process.kill()
        process.wait(20)
    assert 80 <= len(answers) < len(transaction)

    store = open_store(open_home(folder), CONTRACT)
    recorded = {decision.event.transaction_id: decision for decision in store.decisions(10_000)}
    store.close()
    assert set(answers) <= set(recorded) <= {request["transaction_id"] for request in attempts}
    for name, answer in answers.items():
        assert (answer["decision"], answer["score"]) == (recorded[name].decision, recorded[name].score)
    assert counted(folder, "busy") == len(recorded)
    with TestClient(create_app(settings(folder))) as client:
        for request in attempts:  # callers retry what got no answer, or everything
            again = client.post("/v1/score", json=request).json()
            name = request["transaction_id"]
            assert again["repeated"] == (name in recorded)
            assert name not in answers or again == answers[name] | {"repeated": True}
    assert counted(folder, "busy") == len(attempts)


def test_two_servers_with_one_store_count_every_transaction(folder: Path) -> None:
    with contextlib.ExitStack() as servers:
        addresses = [servers.enter_context(running(create_app(settings(folder)))) for _ in range(2)]

        def call(caller: int) -> Counter[int]:
            with httpx.Client(base_url=addresses[caller % 2], timeout=30) as client:
                transaction = [fresh(terminal_id="shared", customer_id=f"C{i}") for i in range(40)]
                return Counter(client.post("/v1/score", json=request).status_code for request in transaction)

        with ThreadPoolExecutor(6) as callers:
            codes = sum(callers.map(call, range(6)), Counter[int]())
    assert codes == {200: 240}
    assert counted(folder, "shared") == 240


@pytest.fixture
def model(folder: Path) -> LoadedModel:
    registry = Registry(open_home(folder))
    return load_model(registry, registry.names()[0], CONTRACT)


def request_for(name: str, model: LoadedModel, *, second: int = 0, cents: int = 100) -> DecisionRequest:
    event = Event(name, 490_000 * HOUR_US + second * 1_000_000, cents, ("C1", "T1"))
    return DecisionRequest(event, FEATURES.encode({"channel": ["chip"]}, 1), model)


class TestGroup:
    """Decisions made together in one transaction."""

    @pytest.fixture
    def decider(self, folder: Path) -> Iterator[Decider]:
        store = open_store(open_home(folder), CONTRACT, timeout=0.3)
        yield Decider(FEATURES, store)
        store.close()

    def test_each_decision_counts_the_ones_before_it(self, decider: Decider, model: LoadedModel) -> None:
        answers = decider.answer_all([request_for(f"t{i}", model, second=i) for i in range(5)])
        counts = [np.frombuffer(a.decision.features)[3] for a in answers if isinstance(a, Answer)]
        assert counts == [1, 2, 3, 4, 5]

    def test_an_error_in_one_does_not_affect_the_others(self, decider: Decider, model: LoadedModel) -> None:
        answers = decider.answer_all(
            [
                request_for("a", model),
                request_for("b", model),
                request_for("a", model, cents=7),
                request_for("a", model),
                request_for("c", model),
            ]
        )
        assert [type(answer) for answer in answers] == [Answer, Answer, Conflict, Answer, Answer]
        assert [answer.repeated for answer in answers if isinstance(answer, Answer)] == [False, False, True, False]
        assert {decision.event.transaction_id for decision in decider.decisions(9)} == {"a", "b", "c"}

    def test_a_group_is_recorded_completely_or_not_at_all(
        self, decider: Decider, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = decider.store
        assert isinstance(store, SqliteStore)
        with sqlite3.connect(store.path) as db:  # the third insert fails
            db.execute(
                "CREATE TRIGGER full BEFORE INSERT ON decisions WHEN NEW.transaction_id = 'c'"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        with pytest.raises(StoreUnavailable, match="disk full"):
            decider.answer_all([request_for(name, model) for name in "abc"])
        assert decider.decisions(9) == []

    def test_concurrent_requests_share_transactions(self, decider: Decider, model: LoadedModel) -> None:
        sizes = []
        answer_all = decider.answer_all

        def watched(group: Any, **options: Any) -> Any:
            sizes.append(len(group))
            return answer_all(group, **options)

        decider.answer_all = watched  # type: ignore[method-assign]
        together = GroupCommit(decider)

        async def many() -> list[Answer]:
            return await asyncio.gather(*(together.answer(request_for(f"m{i}", model, second=i)) for i in range(40)))

        answers = asyncio.run(many())
        together.close()
        assert [answer.decision.event.transaction_id for answer in answers] == [f"m{i}" for i in range(40)]
        assert sizes == [32, 8]

    def test_waiting_for_a_busy_store_does_not_block_the_loop(self, decider: Decider, model: LoadedModel) -> None:
        store = decider.store
        assert isinstance(store, SqliteStore)
        together = GroupCommit(decider)

        async def wait_for_lock() -> tuple[Answer, float]:
            with locked(store.path):
                began = time.monotonic()
                waiting = asyncio.ensure_future(together.answer(request_for("w", model)))
                slowest, last = 0.0, began
                while time.monotonic() - began < 0.15:  # the loop goes on meanwhile
                    await asyncio.sleep(0.005)
                    slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
                assert not waiting.done()
            return await waiting, slowest

        with pytest.raises(StoreBusy), locked(store.path):
            decider.answer_all([request_for("x", model)], wait=False)
        answer, slowest = asyncio.run(wait_for_lock())
        together.close()
        assert (answer.decision.event.transaction_id, answer.repeated) == ("w", False)
        assert slowest < 0.12


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the store as another process would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Let no file grow beyond the present size of the write-ahead log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fails", [locked, full_disk])
@pytest.mark.parametrize("without", ["refuse", "score"])
def test_without_the_store_the_api_refuses_or_scores_as_configured(
    folder: Path, fails: Callable[[Path], contextlib.AbstractContextManager[None]], without: str
) -> None:
    path = folder / "online" / "store.sqlite"
    app = create_app(settings(folder, store_timeout_seconds=0.2, without_store=without))
    with TestClient(app) as client:
        assert client.post("/v1/score", json=fresh(terminal_id="T-full")).json()["behaviour"] == "known"
        transaction = fresh(terminal_id="T-full")
        with fails(path):
            for _ in range(2):  # the second one comes during the pause
                began = time.monotonic()
                reply = client.post("/v1/score", json=transaction)
                assert time.monotonic() - began < 10
                if without == "refuse":
                    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
                    assert "online store" in reply.json()["error"]["message"]
                else:
                    answer = reply.json()
                    assert (reply.status_code, answer["behaviour"], answer["repeated"]) == (200, "unavailable", False)
            assert client.post("/v1/feedback", json={"transaction_id": "x", "is_fraud": True}).status_code == 503
            assert client.get("/health/live").status_code == 200
        time.sleep(1)
        again = client.post("/v1/score", json=transaction).json()
        assert (again["behaviour"], again["repeated"]) == ("known", False)  # nothing was recorded in part
    assert counted(folder, "T-full") == 2


def test_without_the_store_only_the_features_that_need_it_are_missing(folder: Path, model: LoadedModel) -> None:
    answer = Decider(FEATURES, None).decide_without_store(request_for("a", model, cents=250))
    values = dict(zip(FEATURES.names, np.frombuffer(answer.decision.features), strict=True))
    assert (values["amount"], values["channel"]) == (2.5, 0.0)
    assert {name for name, value in values.items() if not np.isnan(value)} == {"amount", "hour", "weekend", "channel"}


def test_a_log_line_that_cannot_be_written_is_counted_as_lost() -> None:
    before = LineWriter.lost
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        LineWriter(full).msg("lost")
    assert LineWriter.lost == before + 1


class Cable:
    """A proxy for a server that can be cut: connections stay open, but nothing passes."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server, self.cut = server, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self.server)
                for deadline in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=deadline, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.cut:
                    target.sendall(data)
            target.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.cloud
@pytest.mark.parametrize("without", ["refuse", "score"])
def test_without_a_response_from_dynamodb_the_api_refuses_or_scores_as_configured(
    s3_url: Callable[[], str], online_table: str, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    address = s3_url()
    serving_home(address)  # type: ignore[arg-type]
    aws = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    cable = Cable((aws.hostname or "", aws.port or 443))
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"{aws.scheme}://{aws.hostname}:{cable.port}")
    app = create_app(settings(address, store_timeout_seconds=4, without_store=without))  # type: ignore[arg-type]
    with TestClient(app) as client:
        assert client.post("/v1/score", json=fresh()).json()["behaviour"] == "known"
        cable.cut = True
        began = time.monotonic()
        reply = client.post("/v1/score", json=fresh())
        assert 0.5 < time.monotonic() - began < 15
        assert client.get("/health/ready").status_code == 200
        if without == "refuse":
            assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        else:
            assert (reply.status_code, reply.json()["behaviour"]) == (200, "unavailable")
        cable.cut = False
        deadline = time.monotonic() + 20
        while client.post("/v1/score", json=fresh()).json().get("behaviour") != "known" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert time.monotonic() < deadline
    cable.close()
