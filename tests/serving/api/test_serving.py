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
from processing.durations import HOUR_US
from processing.errors import BadInput, Conflict
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
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


def fields(response: httpx.Response) -> dict[str, str]:
    """The invalid fields of an error, and their messages."""
    assert response.status_code == 422, response.text
    return {problem["field"]: problem["message"] for problem in response.json()["error"]["fields"]}


def recorded(folder: Path, transaction_id: str) -> Decision:
    """The decision that the store has on a transaction."""
    store = open_store(open_home(folder), CONTRACT)
    (decision,) = [each for each in store.decisions(1000) if each.event.transaction_id == transaction_id]
    store.close()
    return decision


def features_of(decision: Decision) -> dict[str, float]:
    return dict(zip(FEATURES.names, np.frombuffer(decision.features), strict=True))


class TestScore:
    def test_decides_by_the_model_and_its_threshold(self, client: TestClient, folder: Path) -> None:
        small = client.post("/v1/score", json=row(CONTRACT, transaction_id="small", amount=2.5)).json()
        large = client.post("/v1/score", json=row(CONTRACT, transaction_id="large", amount=900)).json()
        assert (small["decision"], large["decision"]) == ("legit", "fraud")
        assert small["score"] < 0.5 <= large["score"]
        version = Registry(open_home(folder)).names()[0]
        assert large | {"score": 0} == {
            "transaction_id": "large",
            "decision": "fraud",
            "score": 0,
            "threshold": 0.5,
            "model_version": version,
            "repeated": False,
            "behaviour": "known",
            "reasons": None,  # the model of these tests is not packed
        }
        assert features_of(recorded(folder, "large"))["amount"] == 900.0

    def test_the_same_id_is_decided_and_counted_once(self, client: TestClient, folder: Path) -> None:
        now = datetime.now(UTC)

        def send(name: str, when: datetime) -> dict[str, Any]:
            transaction = row(CONTRACT, transaction_id=name, customer_id="twice", event_time=when.isoformat())
            response = client.post("/v1/score", json=transaction)
            assert response.status_code == 200
            answer: dict[str, Any] = response.json()
            return answer

        first, again = send("t1", now), send("t1", now)
        assert again == first | {"repeated": True}
        send("t2", now + timedelta(seconds=1))
        assert features_of(recorded(folder, "t2"))["customer_count_1d"] == 2.0

    def test_the_same_id_for_another_transaction_is_a_conflict(self, client: TestClient) -> None:
        transaction = row(CONTRACT, transaction_id="c1")
        assert client.post("/v1/score", json=transaction).status_code == 200
        earlier = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        for change in ({"amount": 1.0}, {"customer_id": "other"}, {"terminal_id": "other"}, {"event_time": earlier}):
            response = client.post("/v1/score", json=transaction | change)
            assert response.status_code == 409
            assert "'c1' was already used for another transaction" in response.json()["error"]["message"]
        assert client.post("/v1/score", json=transaction).json()["repeated"]

    def test_ids_may_be_numbers(self, client: TestClient, folder: Path) -> None:
        transaction = row(CONTRACT, transaction_id=77001, customer_id=596, terminal_id=" 0042 ")
        assert client.post("/v1/score", json=transaction).json()["transaction_id"] == "77001"
        assert recorded(folder, "77001").event.keys == ("596", "0042")
        assert client.post("/v1/score", json=transaction | {"customer_id": "596"}).json()["repeated"]

    @pytest.mark.parametrize(
        ("channel", "expected"),
        [(None, None), (..., None), ("by post", None), ("contactless", 1.0), (" chip ", 0.0)],
    )
    def test_an_unknown_category_is_a_missing_value(
        self, client: TestClient, folder: Path, channel: Any, expected: float | None
    ) -> None:
        name = f"category-{channel!r}"
        response = client.post("/v1/score", json=row(CONTRACT, transaction_id=name, channel=channel))
        assert response.status_code == 200
        value = features_of(recorded(folder, name))["channel"]
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
def test_an_invalid_value_is_reported_by_its_field(client: TestClient, field: str, value: Any, says: str) -> None:
    body = json.dumps(row(CONTRACT, **{field: value}))  # httpx itself refuses to send NaN
    response = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    wrong = fields(response)
    assert list(wrong) == [field]
    assert says in wrong[field]
    assert field in response.json()["error"]["message"]


def test_all_invalid_fields_are_reported_at_once(client: TestClient) -> None:
    response = client.post("/v1/score", json=row(CONTRACT, amount=-1, customer_id=..., colour="red"))
    assert set(fields(response)) == {"amount", "customer_id", "colour"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff\xfe", b"[" * 9000, b"1" * 5000])
def test_a_body_that_is_not_a_transaction_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@example_settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*CONTRACT.columns, "other"]), ANYTHING, max_size=4))
def test_garbage_never_makes_the_server_fail(client: TestClient, changes: dict[str, Any]) -> None:
    body = json.dumps(row(CONTRACT) | changes)
    response = client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 409, 422), response.text
    if response.status_code == 422:
        assert set(fields(response)) <= set(changes)


def test_http_errors_have_the_same_form(client: TestClient) -> None:
    for response, status in ((client.get("/v1/nothing"), 404), (client.get("/v1/score"), 405)):
        assert response.status_code == status
        assert response.json()["error"]["fields"] == []


def test_a_response_has_the_request_id_or_a_new_one(client: TestClient) -> None:
    assert client.get("/health/live", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    generated = client.get("/health/live", headers={"X-Request-ID": 'two words" {'}).headers["X-Request-ID"]
    assert len(generated) == 32


def test_an_error_of_the_server_is_answered_and_logged_without_its_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with TestClient(create_app(settings(folder))) as client:
        monkeypatch.setattr(SqliteStore, "together", broken)
        response = client.post("/v1/score", json=row(CONTRACT))
    assert response.status_code == 500
    assert "a bug" not in response.text
    assert response.headers["X-Request-ID"]


def test_an_unavailable_store_is_a_503(tmp_path: Path) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=0.1))) as client:
        other = sqlite3.connect(tmp_path / "online" / "store.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        response = client.post("/v1/score", json=row(CONTRACT))
        other.execute("ROLLBACK")
        other.close()
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        time.sleep(int(response.headers["Retry-After"]))
        assert client.post("/v1/score", json=row(CONTRACT)).json()["repeated"] is False  # nothing was recorded before


class TestFeedback:
    def test_is_recorded(self, client: TestClient) -> None:
        client.post("/v1/score", json=row(CONTRACT, transaction_id="f1"))
        response = client.post("/v1/feedback", json={"transaction_id": "f1", "is_fraud": True})
        assert (response.status_code, response.json()) == (200, {"transaction_id": "f1", "is_fraud": True})
        (decision,) = [d for d in client.get("/v1/decisions").json()["decisions"] if d["transaction_id"] == "f1"]
        assert decision["is_fraud"] is True

    def test_needs_a_known_id_and_a_label(self, client: TestClient) -> None:
        response = client.post("/v1/feedback", json={"transaction_id": "unknown", "is_fraud": True})
        assert response.status_code == 404
        assert "'unknown'" in response.json()["error"]["message"]
        assert set(fields(client.post("/v1/feedback", json={"transaction_id": "f1", "is_fraud": "no"}))) == {"is_fraud"}
        assert set(fields(client.post("/v1/feedback", json={"is_fraud": 1, "why": ""}))) == {
            "transaction_id",
            "is_fraud",
            "why",
        }

    def test_changes_the_fraud_features_after_the_label_delay(self, folder: Path, tmp_path: Path) -> None:
        home = open_home(folder)
        model = load_model(Registry(home), Registry(home).names()[0], CONTRACT)
        store = open_store(begin(tmp_path), CONTRACT)
        decider = Decider(FEATURES, store)
        extras = FEATURES.encode({"channel": ["chip"]}, 1)
        start, hours = 490_000, 24 * CONTRACT.label_delay_days

        def at(name: str, hour: int) -> dict[str, float]:
            event = Event(name, (start + hour) * HOUR_US, 1000, (name, "T1"))
            return features_of(decider.decide(event, extras, model))

        at("a", 0)
        decider.report("a", True)
        assert at("b", hours)["terminal_fraud_count_1d"] == 0.0
        later = at("c", hours + 1)
        assert (later["terminal_fraud_count_1d"], later["terminal_fraud_rate_1d"]) == (1.0, 1.0)
        decider.report("a", False)
        assert at("d", hours + 1)["terminal_fraud_count_1d"] == 0.0
        store.close()


def test_a_decision_made_by_another_task_at_the_same_moment_stands(folder: Path, tmp_path: Path) -> None:
    """Two tasks get the same id at once: between recall and record of one, the other records."""
    home = open_home(folder)
    model = load_model(Registry(home), Registry(home).names()[0], CONTRACT)
    store = open_store(begin(tmp_path), CONTRACT)
    extras = FEATURES.encode({"channel": ["chip"]}, 1)
    event = Event("a", 490_000 * HOUR_US, 1000, ("C1", "T1"))
    theirs = Decider(FEATURES, store).decide(event, extras, model)

    class Late(SqliteStore):
        together = OnlineStore.together  # like a store whose calls are no single transaction

        def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
            return None, super().recall(event, plan)[1]

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


def test_the_serving_model_is_reported(client: TestClient, folder: Path) -> None:
    reported = client.get("/v1/model").json()
    registry = Registry(open_home(folder))
    latest = registry.latest()
    assert latest is not None
    assert (reported["version"], reported["promoted_at"]) == (latest.version, latest.promoted_at)
    assert reported["manifest"] == registry.manifest(latest.version)
    assert reported["trouble"] is None
    assert datetime.fromisoformat(reported["serving_since"]) <= datetime.now(UTC)


def test_the_server_is_ready_once_a_model_is_loaded(tmp_path: Path) -> None:
    home = begin(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.get("/health/live").status_code == 200
        for response in (
            client.get("/health/ready"),
            client.get("/v1/model"),
            client.post("/v1/score", json=row(CONTRACT)),
        ):
            assert response.status_code == 503
            assert "none was promoted yet" in response.json()["error"]["message"]
        version = promote(home, publish(home))
        deadline = time.monotonic() + 30
        while (response := client.get("/health/ready")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert response.json() == {"status": "ready", "model_version": version, "trouble": None, "troubles": []}
        assert client.post("/v1/score", json=row(CONTRACT)).status_code == 200


class TestStateless:
    def test_a_contract_without_entities_is_scored_without_a_store(self, tmp_path: Path) -> None:
        ulb = contracts.load("ulb")
        serving_home(tmp_path, "ulb")
        with TestClient(create_app(settings(tmp_path))) as client:
            transaction = row(ulb, V3=None, V4=...)
            first = client.post("/v1/score", json=transaction).json()
            assert len(first["transaction_id"]) == 32
            named = [client.post("/v1/score", json=transaction | {"transaction_id": "mine"}).json() for _ in range(2)]
            assert [(n["transaction_id"], n["score"], n["repeated"]) for n in named] == [
                ("mine", first["score"], False)
            ] * 2
            assert set(fields(client.post("/v1/score", json=transaction | {"V1": "much"}))) == {"V1"}
            response = client.post("/v1/feedback", json={"transaction_id": "mine", "is_fraud": True})
            assert response.status_code == 404
            assert "no entities" in response.json()["error"]["message"]
            assert client.get("/v1/decisions").json() == {"decisions": [], "next": None, "reached": None}
        assert not (tmp_path / "online").exists()


@pytest.mark.parametrize("name", contracts.shipped())
def test_the_request_format_of_every_contract_is_documented(tmp_path: Path, name: str) -> None:
    contract = contracts.load(name)
    begin(tmp_path, name)
    with TestClient(create_app(settings(tmp_path))) as client:
        document = client.get("/openapi.json").json()
        assert client.get("/docs").status_code == 200
    request = document["components"]["schemas"]["Transaction"]
    expected = set(contract.columns) - {contract.label} | {contract.id or "transaction_id"}
    assert set(request["properties"]) == expected
    optional = {*contract.numeric, *contract.categorical} | (set() if contract.id else {"transaction_id"})
    assert set(request["required"]) == expected - optional
    score = document["paths"]["/v1/score"]["post"]["responses"]
    assert set(score) == {"200", "401", "403", "409", "413", "415", "421", "422", "429", "503"}
    assert score["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorResponse")
    for shape in (request, document["components"]["schemas"]["ScoreResponse"]):
        assert shape["examples"]
    transaction_model(contract).model_validate(request["examples"][0])


@pytest.mark.parametrize(
    ("name", "value", "microseconds"),
    [
        ("transactions", "2025-03-01T12:00:00.5+02:00", 1_740_823_200_500_000),
        ("handbook", "2018-04-01 00:00:31", 1_522_540_831_000_000),
        ("sparkov", 1325376018, 1_325_376_018_000_000),
        ("sparkov", 1325376018.25, 1_325_376_018_250_000),
        ("ulb", 406.0, 1_377_993_600_000_000 + 406_000_000),
    ],
)
def test_times_are_parsed_as_the_contract_defines(name: str, value: Any, microseconds: int) -> None:
    contract = contracts.load(name)
    request = transaction_model(contract).model_validate(row(contract) | {contract.time: value})
    assert to_event(request, contract, FeatureSet(contract))[0].time_us == microseconds


def test_columns_may_have_any_name() -> None:
    text = (
        'name = "odd"\n[columns]\nid = "transaction id"\ntime = "model_config"\namount = "_amount (EUR)"\n'
        'label = "class"\n[[entity]]\nname = "card"\ncolumn = "schema"\nwindows_days = [1]\n'
    )
    contract = contracts.parse(text)
    request = transaction_model(contract).model_validate(
        row(contract, **{"transaction id": "x", "_amount (EUR)": 0.29})
    )
    event, extras = to_event(request, contract, FeatureSet(contract))
    assert (event.transaction_id, event.amount, event.keys, extras.shape) == ("x", 29, ("C1042",), (1, 0))


class TestSettings:
    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
    def test_a_host_other_than_this_machine_is_refused(self, host: str) -> None:
        with pytest.raises(BadInput, match=r"FRAUDLINE_HOST.*this machine only"):
            read_settings(host=host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
    def test_this_machine_is_accepted_as_host(self, host: str) -> None:
        assert read_settings(host=host).host == host

    def test_settings_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUDLINE_FOLLOW_SECONDS", "0.5")
        assert read_settings().follow_seconds == 0.5
        monkeypatch.setenv("FRAUDLINE_PORT", "many")
        with pytest.raises(BadInput, match=r"FRAUDLINE_PORT is 'many'"):
            read_settings()

    def test_the_readme_lists_all_settings_with_their_defaults(self) -> None:
        lines = (ROOT / "serving" / "README.md").read_text().splitlines()
        reported = {
            name.strip("| "): default.strip("`| ")
            for name, default in (line.split("|")[1:3] for line in lines if line.startswith("| FRAUDLINE_"))
        }
        fields = Settings.model_fields.items()
        assert reported == {
            f"FRAUDLINE_{name.upper()}": "" if field.default is None else str(field.default) for name, field in fields
        }

    def test_settings_are_passed_on_to_workers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reported = read_settings(home="/some/where", port=1, workers=3, host="::1", follow_seconds=0.25)
        for name, value in reported.variables().items():
            monkeypatch.setenv(name, value)
        assert read_settings() == reported


def test_an_uninitialised_home_is_neither_served_nor_created(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fraudline run"):
        open_service(settings(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def below(pid: int) -> list[str]:
    """The /proc folders of the Python workers that a process has started."""
    return [
        str(stat.parent)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if stat.read_text().rpartition(")")[2].split()[1] == str(pid)
        and b"spawn_main" in (stat.parent / "cmdline").read_bytes()
    ]


class TestProcess:
    """`python -m serving` as users see it."""

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_server_runs_until_ctrl_c(self, folder: Path, workers: int) -> None:
        process = server_process(folder, FRAUDLINE_WORKERS=str(workers))
        try:
            assert process.stderr is not None
            greeting = process.stderr.readline()
            address = greeting.split(" on ")[1].split()[0]
            transaction = row(CONTRACT, transaction_id=f"process-{workers}", customer_id="secret-customer")
            response = httpx.post(f"{address}/v1/score", json=transaction, headers={"X-Request-ID": "r1"}, timeout=60)
            assert response.status_code == 200
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0
        assert "Traceback" not in err
        events = [json.loads(line) for line in out.splitlines()]
        (decision,) = [event for event in events if event["event"] == "decision"]
        assert decision["request_id"] == "r1"
        assert decision["score"] == response.json()["score"]
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
    def test_an_invalid_setting_gives_a_one_line_error(
        self, folder: Path, variables: dict[str, str], code: int, says: str
    ) -> None:
        process = server_process(folder, **variables)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, "")
        assert len(err.splitlines()) == 1
        assert says in err

    @pytest.mark.slow
    def test_workers_end_with_their_parent_even_if_it_is_killed(self, folder: Path) -> None:
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

    def test_a_port_in_use_gives_a_one_line_error(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            process = server_process(folder, FRAUDLINE_PORT=port)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert err.splitlines() == [err.strip()]
        assert f"port {port}: Address already in use" in err
