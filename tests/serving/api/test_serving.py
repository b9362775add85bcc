"""The scoring API, over a real store and a real model."""

import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from places import ROOT
from serving_home import TestClient, begin, promote, publish, row, server_process, serving_home, settings

from pipeline.registry.registry import Registry
from processing.contracts import reader as contracts
from processing.errors import BadInput, Conflict
from processing.features.feature_set import FeatureSet
from processing.features.windows import HOUR_US
from processing.storage.open import open_home
from processing.store.decisions import Decision, Event
from processing.store.interface import OnlineStore
from processing.store.open import open_store
from processing.store.sqlite.store import SqliteStore
from serving.api.transaction import to_event, transaction_model
from serving.app import create_app
from serving.decision.decider import Decider
from serving.decision.loaded_model import load_model
from serving.decision.service import open_service
from serving.settings import Settings, read_settings

CONTRACT = contracts.load("transactions")
FEATURES = FeatureSet(CONTRACT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    serving_home(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings(folder))) as client:
        yield client


def fields(reply: httpx.Response) -> dict[str, str]:
    """The fields that a refusal names, and what it says about them."""
    assert reply.status_code == 422, reply.text
    return {problem["field"]: problem["message"] for problem in reply.json()["error"]["fields"]}


def recorded(folder: Path, transaction_id: str) -> Decision:
    """What the store holds about a transaction."""
    store = open_store(open_home(folder), CONTRACT)
    (found,) = [made for made in store.decisions(1000) if made.event.transaction_id == transaction_id]
    store.close()
    return found


def named(made: Decision) -> dict[str, float]:
    return dict(zip(FEATURES.names, np.frombuffer(made.features), strict=True))


class TestScore:
    def test_decides_by_the_model_and_its_threshold(self, client: TestClient, folder: Path) -> None:
        small = client.post("/v1/score", json=row(CONTRACT, transaction_id="small", amount=2.5)).json()
        great = client.post("/v1/score", json=row(CONTRACT, transaction_id="great", amount=900)).json()
        assert (small["decision"], great["decision"]) == ("legit", "fraud")
        assert small["score"] < 0.5 <= great["score"]
        version = Registry(open_home(folder)).names()[0]
        assert great | {"score": 0} == {
            "transaction_id": "great",
            "decision": "fraud",
            "score": 0,
            "threshold": 0.5,
            "model_version": version,
            "repeated": False,
            "behaviour": "known",
            "reasons": None,  # the model of these tests is not packed
        }
        assert named(recorded(folder, "great"))["amount"] == 900.0

    def test_the_same_id_is_decided_and_counted_once(self, client: TestClient, folder: Path) -> None:
        now = datetime.now(UTC)

        def send(name: str, when: datetime) -> dict[str, Any]:
            sent = row(CONTRACT, transaction_id=name, customer_id="twice", event_time=when.isoformat())
            reply = client.post("/v1/score", json=sent)
            assert reply.status_code == 200
            answer: dict[str, Any] = reply.json()
            return answer

        first, again = send("t1", now), send("t1", now)
        assert again == first | {"repeated": True}
        send("t2", now + timedelta(seconds=1))
        assert named(recorded(folder, "t2"))["customer_count_1d"] == 2.0

    def test_the_same_id_for_something_else_is_a_conflict(self, client: TestClient) -> None:
        sent = row(CONTRACT, transaction_id="c1")
        assert client.post("/v1/score", json=sent).status_code == 200
        earlier = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        for change in ({"amount": 1.0}, {"customer_id": "other"}, {"terminal_id": "other"}, {"event_time": earlier}):
            reply = client.post("/v1/score", json=sent | change)
            assert reply.status_code == 409
            assert "'c1' was already used for another transaction" in reply.json()["error"]["message"]
        assert client.post("/v1/score", json=sent).json()["repeated"]

    def test_ids_may_be_numbers(self, client: TestClient, folder: Path) -> None:
        sent = row(CONTRACT, transaction_id=77001, customer_id=596, terminal_id=" 0042 ")
        assert client.post("/v1/score", json=sent).json()["transaction_id"] == "77001"
        assert recorded(folder, "77001").event.keys == ("596", "0042")
        assert client.post("/v1/score", json=sent | {"customer_id": "596"}).json()["repeated"]

    @pytest.mark.parametrize(
        ("sent", "expected"),
        [(None, None), (..., None), ("by post", None), ("contactless", 1.0), (" chip ", 0.0)],
    )
    def test_an_unknown_category_is_a_missing_value(
        self, client: TestClient, folder: Path, sent: Any, expected: float | None
    ) -> None:
        name = f"category-{sent!r}"
        reply = client.post("/v1/score", json=row(CONTRACT, transaction_id=name, channel=sent))
        assert reply.status_code == 200
        value = named(recorded(folder, name))["channel"]
        assert np.isnan(value) if expected is None else value == expected


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).isoformat()
WRONG = [
    ("transaction_id", ..., "is missing"),
    ("transaction_id", "  ", "a value is required"),
    ("transaction_id", None, "valid string"),
    ("transaction_id", True, "valid string"),
    ("transaction_id", 1.5, "valid string"),
    ("transaction_id", "x" * 300, "at most 256"),
    ("event_time", ..., "is missing"),
    ("event_time", "yesterday", "ISO-8601"),
    ("event_time", 1_700_000_000, "ISO-8601"),
    ("event_time", "1700000000", "ISO-8601"),
    ("event_time", "1999-12-31T23:59:59Z", "expected a time from 2000"),
    ("event_time", "0001-01-01T00:00:00+14:00", "expected a time from 2000"),
    ("event_time", "9999-12-31T23:59:59-14:00", "expected a time from 2000"),
    pytest.param("event_time", TOMORROW, "at most a day ahead", id="event_time-two days ahead"),
    ("amount", ..., "is missing"),
    ("amount", -0.01, "greater than or equal to 0"),
    ("amount", 100_000.01, "less than or equal to 100000"),
    ("amount", "12", "valid number"),
    ("amount", True, "valid number"),
    ("amount", None, "valid number"),
    ("amount", float("nan"), "finite number"),
    ("amount", float("inf"), "finite number"),
    ("amount", 10**400, ""),
    ("customer_id", ..., "is missing"),
    ("customer_id", "", "a value is required"),
    ("terminal_id", ["T1"], "valid string"),
    ("channel", 2.5, "valid string"),
    ("is_fraud", 1, "is not a field of this request"),
    ("ammount", 1, "is not a field of this request"),
]


@pytest.mark.parametrize(("field", "value", "says"), WRONG)
def test_a_wrong_value_is_refused_by_its_field(client: TestClient, field: str, value: Any, says: str) -> None:
    body = json.dumps(row(CONTRACT, **{field: value}))  # httpx itself refuses to send NaN
    reply = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    wrong = fields(reply)
    assert list(wrong) == [field]
    assert says in wrong[field]
    assert field in reply.json()["error"]["message"]


def test_all_wrong_fields_are_named_at_once(client: TestClient) -> None:
    reply = client.post("/v1/score", json=row(CONTRACT, amount=-1, customer_id=..., colour="red"))
    assert set(fields(reply)) == {"amount", "customer_id", "colour"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe", b"[" * 9000, b"1" * 5000])
def test_a_body_that_is_no_transaction_is_refused(client: TestClient, body: bytes) -> None:
    reply = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert reply.json()["error"]["message"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@example_settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*CONTRACT.columns, "other"]), ANYTHING, max_size=4))
def test_no_garbage_makes_the_server_fail(client: TestClient, changes: dict[str, Any]) -> None:
    body = json.dumps(row(CONTRACT) | changes)
    reply = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 409, 422), reply.text
    if reply.status_code == 422:
        assert set(fields(reply)) <= set(changes)


def test_errors_of_the_protocol_have_the_same_shape(client: TestClient) -> None:
    for reply, status in ((client.get("/v1/nothing"), 404), (client.get("/v1/score"), 405)):
        assert reply.status_code == status
        assert reply.json()["error"]["fields"] == []


def test_requests_are_told_apart_by_their_ids(client: TestClient) -> None:
    assert client.get("/health/live", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    made = client.get("/health/live", headers={"X-Request-ID": 'two words" {'}).headers["X-Request-ID"]
    assert len(made) == 32


def test_an_error_of_the_server_is_answered_and_logged_without_its_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with TestClient(create_app(settings(folder))) as client:
        monkeypatch.setattr(SqliteStore, "together", broken)
        reply = client.post("/v1/score", json=row(CONTRACT))
    assert reply.status_code == 500
    assert "a bug" not in reply.text
    assert reply.headers["X-Request-ID"]


def test_a_store_that_does_not_answer_makes_a_503(tmp_path: Path) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=0.1))) as client:
        other = sqlite3.connect(tmp_path / "online" / "store.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        reply = client.post("/v1/score", json=row(CONTRACT))
        other.execute("ROLLBACK")
        other.close()
        assert reply.status_code == 503
        assert reply.headers["Retry-After"] == "1"
        time.sleep(int(reply.headers["Retry-After"]))
        assert client.post("/v1/score", json=row(CONTRACT)).json()["repeated"] is False  # nothing was half done


class TestFeedback:
    def test_is_recorded(self, client: TestClient) -> None:
        client.post("/v1/score", json=row(CONTRACT, transaction_id="f1"))
        reply = client.post("/v1/feedback", json={"transaction_id": "f1", "is_fraud": True})
        assert (reply.status_code, reply.json()) == (200, {"transaction_id": "f1", "is_fraud": True})
        (found,) = [d for d in client.get("/v1/decisions").json()["decisions"] if d["transaction_id"] == "f1"]
        assert found["is_fraud"] is True

    def test_needs_a_known_id_and_a_label(self, client: TestClient) -> None:
        reply = client.post("/v1/feedback", json={"transaction_id": "nobody", "is_fraud": True})
        assert reply.status_code == 404
        assert "'nobody'" in reply.json()["error"]["message"]
        assert set(fields(client.post("/v1/feedback", json={"transaction_id": "f1", "is_fraud": "no"}))) == {"is_fraud"}
        assert set(fields(client.post("/v1/feedback", json={"is_fraud": 1, "why": ""}))) == {
            "transaction_id",
            "is_fraud",
            "why",
        }

    def test_moves_the_fraud_features_once_the_delay_is_over(self, folder: Path, tmp_path: Path) -> None:
        home = open_home(folder)
        model = load_model(Registry(home), Registry(home).names()[0], CONTRACT)
        store = open_store(begin(tmp_path), CONTRACT)
        decider = Decider(FEATURES, store)
        extras = FEATURES.encode({"channel": ["chip"]}, 1)
        start, hours = 490_000, 24 * CONTRACT.label_delay_days

        def at(name: str, hour: int) -> dict[str, float]:
            event = Event(name, (start + hour) * HOUR_US, 1000, (name, "T1"))
            return named(decider.decide(event, extras, model))

        at("a", 0)
        decider.report("a", True)
        assert at("b", hours)["terminal_fraud_count_1d"] == 0.0
        later = at("c", hours + 1)
        assert (later["terminal_fraud_count_1d"], later["terminal_fraud_rate_1d"]) == (1.0, 1.0)
        decider.report("a", False)
        assert at("d", hours + 1)["terminal_fraud_count_1d"] == 0.0
        store.close()


def test_a_decision_made_at_the_same_moment_elsewhere_stands(folder: Path, tmp_path: Path) -> None:
    """Two tasks get the same id at once: between one's recall and record the other records."""
    home = open_home(folder)
    model = load_model(Registry(home), Registry(home).names()[0], CONTRACT)
    store = open_store(begin(tmp_path), CONTRACT)
    extras = FEATURES.encode({"channel": ["chip"]}, 1)
    event = Event("a", 490_000 * HOUR_US, 1000, ("C1", "T1"))
    theirs = Decider(FEATURES, store).decide(event, extras, model)

    class Late(SqliteStore):
        together = OnlineStore.together  # as a store does that has no transactions of many calls

        def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
            return None, super().recall(event)[1]

    late = Decider(FEATURES, Late(tmp_path / "online" / "store.sqlite", CONTRACT))
    answer = late.answer(event, extras, model)
    assert (answer.decision, answer.repeated) == (theirs, True)
    with pytest.raises(Conflict, match="already used"):
        late.decide(Event("a", event.time_us, 1, event.keys), extras, model)
    store.close()


def test_decisions_are_listed_newest_first(client: TestClient) -> None:
    for i in range(3):
        client.post("/v1/score", json=row(CONTRACT, transaction_id=f"listed-{i}", amount=1.25 + i))
    listed = client.get("/v1/decisions", params={"limit": 2}).json()["decisions"]
    assert [(d["transaction_id"], d["amount"]) for d in listed] == [("listed-2", 3.25), ("listed-1", 2.25)]
    assert "customer_id" not in listed[0]
    assert set(fields(client.get("/v1/decisions", params={"limit": 0}))) == {"limit"}


def test_the_model_that_serves_is_told(client: TestClient, folder: Path) -> None:
    told = client.get("/v1/model").json()
    registry = Registry(open_home(folder))
    latest = registry.latest()
    assert latest is not None
    assert (told["version"], told["promoted_at"]) == (latest.version, latest.promoted_at)
    assert told["manifest"] == registry.manifest(latest.version)
    assert told["trouble"] is None
    assert datetime.fromisoformat(told["serving_since"]) <= datetime.now(UTC)


def test_not_ready_before_a_model_is_there_and_then_ready(tmp_path: Path) -> None:
    home = begin(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.get("/health/live").status_code == 200
        for reply in (
            client.get("/health/ready"),
            client.get("/v1/model"),
            client.post("/v1/score", json=row(CONTRACT)),
        ):
            assert reply.status_code == 503
            assert "none was promoted yet" in reply.json()["error"]["message"]
        version = promote(home, publish(home))
        ends = time.monotonic() + 30
        while (reply := client.get("/health/ready")).status_code == 503 and time.monotonic() < ends:
            time.sleep(0.05)
        assert reply.json() == {"status": "ready", "model_version": version, "trouble": None, "troubles": []}
        assert client.post("/v1/score", json=row(CONTRACT)).status_code == 200


class TestStateless:
    def test_scores_without_a_store(self, tmp_path: Path) -> None:
        ulb = contracts.load("ulb")
        serving_home(tmp_path, "ulb")
        with TestClient(create_app(settings(tmp_path))) as client:
            sent = row(ulb, V3=None, V4=...)
            first = client.post("/v1/score", json=sent).json()
            assert len(first["transaction_id"]) == 32
            named = [client.post("/v1/score", json=sent | {"transaction_id": "mine"}).json() for _ in range(2)]
            assert [(n["transaction_id"], n["score"], n["repeated"]) for n in named] == [
                ("mine", first["score"], False)
            ] * 2
            assert set(fields(client.post("/v1/score", json=sent | {"V1": "much"}))) == {"V1"}
            reply = client.post("/v1/feedback", json={"transaction_id": "mine", "is_fraud": True})
            assert reply.status_code == 404
            assert "no entities" in reply.json()["error"]["message"]
            assert client.get("/v1/decisions").json() == {"decisions": [], "next": None, "reached": None}
        assert not (tmp_path / "online").exists()


@pytest.mark.parametrize("name", contracts.shipped())
def test_every_contract_makes_a_documented_request(tmp_path: Path, name: str) -> None:
    contract = contracts.load(name)
    begin(tmp_path, name)
    with TestClient(create_app(settings(tmp_path))) as client:
        document = client.get("/openapi.json").json()
        assert client.get("/docs").status_code == 200
    request = document["components"]["schemas"]["Transaction"]
    asked = set(contract.columns) - {contract.label} | {contract.id or "transaction_id"}
    assert set(request["properties"]) == asked
    optional = {*contract.numeric, *contract.categorical} | (set() if contract.id else {"transaction_id"})
    assert set(request["required"]) == asked - optional
    score = document["paths"]["/v1/score"]["post"]["responses"]
    assert set(score) == {"200", "401", "403", "409", "413", "415", "421", "422", "429", "503"}
    assert score["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")
    for shape in (request, document["components"]["schemas"]["ScoreResponse"]):
        assert shape["examples"]
    transaction_model(contract).model_validate(request["examples"][0])


@pytest.mark.parametrize(
    ("name", "sent", "microseconds"),
    [
        ("transactions", "2025-03-01T12:00:00.5+02:00", 1_740_823_200_500_000),
        ("handbook", "2018-04-01 00:00:31", 1_522_540_831_000_000),
        ("sparkov", 1325376018, 1_325_376_018_000_000),
        ("sparkov", 1325376018.25, 1_325_376_018_250_000),
        ("ulb", 406.0, 1_377_993_600_000_000 + 406_000_000),
    ],
)
def test_times_are_read_as_the_contract_says(name: str, sent: Any, microseconds: int) -> None:
    contract = contracts.load(name)
    request = transaction_model(contract).model_validate(row(contract) | {contract.time: sent})
    assert to_event(request, FeatureSet(contract))[0].time_us == microseconds


def test_columns_may_be_called_anything() -> None:
    text = (
        'name = "odd"\n[columns]\nid = "transaction id"\ntime = "model_config"\namount = "_amount (EUR)"\n'
        'label = "class"\n[[entity]]\nname = "card"\ncolumn = "schema"\nwindows_days = [1]\n'
    )
    contract = contracts.parse(text)
    request = transaction_model(contract).model_validate(
        row(contract, **{"transaction id": "x", "_amount (EUR)": 0.29})
    )
    event, extras = to_event(request, FeatureSet(contract))
    assert (event.transaction_id, event.amount, event.keys, extras.shape) == ("x", 29, ("C1042",), (1, 0))


class TestSettings:
    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
    def test_others_than_this_machine_are_not_served(self, host: str) -> None:
        with pytest.raises(BadInput, match=r"FRAUDLINE_HOST.*this machine only"):
            read_settings(host=host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
    def test_this_machine_is(self, host: str) -> None:
        assert read_settings(host=host).host == host

    def test_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUDLINE_FOLLOW_SECONDS", "0.5")
        assert read_settings().follow_seconds == 0.5
        monkeypatch.setenv("FRAUDLINE_PORT", "many")
        with pytest.raises(BadInput, match=r"FRAUDLINE_PORT is 'many'"):
            read_settings()

    def test_are_all_in_the_readme_with_their_defaults(self) -> None:
        lines = (ROOT / "serving" / "README.md").read_text().splitlines()
        told = {
            name.strip("| "): default.strip("`| ")
            for name, default in (line.split("|")[1:3] for line in lines if line.startswith("| FRAUDLINE_"))
        }
        fields = Settings.model_fields.items()
        assert told == {
            f"FRAUDLINE_{name.upper()}": "" if field.default is None else str(field.default) for name, field in fields
        }

    def test_survive_the_way_to_a_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = read_settings(home="/some/where", port=1, workers=3, host="::1", follow_seconds=0.25)
        for name, value in told.variables().items():
            monkeypatch.setenv(name, value)
        assert read_settings() == told


def test_a_home_that_no_run_began_is_not_served_nor_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fraudline run"):
        open_service(settings(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def below(pid: int) -> list[str]:
    """The folders in /proc of the Python processes that a process has started to serve."""
    return [
        str(stat.parent)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if stat.read_text().rpartition(")")[2].split()[1] == str(pid)
        and b"spawn_main" in (stat.parent / "cmdline").read_bytes()
    ]


class TestProcess:
    """`python -m serving` as a user sees it."""

    @pytest.mark.parametrize("workers", [1, 2])
    def test_serves_until_ctrl_c(self, folder: Path, workers: int) -> None:
        process = server_process(folder, FRAUDLINE_WORKERS=str(workers))
        try:
            assert process.stderr is not None
            greeting = process.stderr.readline()
            address = greeting.split(" on ")[1].split()[0]
            sent = row(CONTRACT, transaction_id=f"process-{workers}", customer_id="secret-customer")
            reply = httpx.post(f"{address}/v1/score", json=sent, headers={"X-Request-ID": "r1"}, timeout=60)
            assert reply.status_code == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0
        assert "Traceback" not in err
        events = [json.loads(line) for line in out.splitlines()]
        (decision,) = [event for event in events if event["event"] == "decision"]
        assert decision["request_id"] == "r1"
        assert decision["score"] == reply.json()["score"]
        assert "secret-customer" not in out
        assert sum(event["event"] == "model_serves" for event in events) == workers

    @pytest.mark.parametrize(
        ("variables", "code", "says"),
        [
            ({"FRAUDLINE_HOST": "0.0.0.0"}, 2, "this machine only"),
            ({"FRAUDLINE_PORT": "-1"}, 2, "FRAUDLINE_PORT is '-1'"),
            ({"FRAUDLINE_HOME": "/nowhere/at/all"}, 2, "fraudline run"),
        ],
    )
    def test_a_wrong_setting_is_one_line(self, folder: Path, variables: dict[str, str], code: int, says: str) -> None:
        process = server_process(folder, **variables)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, "")
        assert len(err.splitlines()) == 1
        assert says in err

    def test_workers_end_with_their_parent_also_when_it_is_killed(self, folder: Path) -> None:
        process = server_process(folder, FRAUDLINE_WORKERS="2")
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split(" on ")[1].split()[0]
            assert httpx.get(f"{address}/health/live", timeout=60).status_code == 200
            deadline = time.monotonic() + 60
            while len(workers := below(process.pid)) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait(60)
        assert len(workers) >= 2
        while any(map(os.path.exists, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(os.path.exists, workers))
        process.communicate()

    def test_a_port_in_use_is_one_line(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            process = server_process(folder, FRAUDLINE_PORT=port)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err.splitlines() == [err.strip()]
        assert f"port {port}: Address already in use" in err
