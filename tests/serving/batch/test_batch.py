"""Batches: each row is decided as if sent on its own, in a JSON array, NDJSON or an Arrow stream."""

import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from serving_home import TestClient, begin, promote, publish, row, running, serving_home, settings

from processing.contracts import reader as contracts
from serving.api.problems import MalformedRequest, TooLarge
from serving.app import create_app
from serving.batch.format import BatchLimits
from serving.batch.formats import ARROW, FORMATS
from serving.decision.group_commit import PAUSE_SECONDS

CONTRACT = contracts.load("transactions")
JSON, NDJSON = "application/json", "application/x-ndjson"
Rows = Sequence[dict[str, Any]]


def as_arrow(rows: Rows, **options: Any) -> bytes:
    table = pa.Table.from_pylist(list(rows))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(table)
    return sink.getvalue()


ENCODERS: dict[str, Callable[[Rows], bytes]] = {
    JSON: lambda rows: json.dumps(rows).encode(),
    NDJSON: lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ARROW: as_arrow,
}


def decoded(kind: str, body: bytes) -> list[dict[str, Any]]:
    if kind == ARROW:
        return [dict(row) for row in pa.ipc.open_stream(body).read_all().to_pylist()]
    if kind == JSON:
        return list(json.loads(body))
    return [json.loads(line) for line in body.splitlines()]


def send(client: TestClient, kind: str, body: bytes) -> list[dict[str, Any]]:
    response = client.post("/v1/score/batch", content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.headers["Content-Type"]) == (200, kind), response.text
    return decoded(kind, response.content)


def refusal(client: TestClient, kind: str, body: bytes, status: int) -> str:
    response = client.post("/v1/score/batch", content=body, headers={"Content-Type": kind})
    assert response.status_code == status, response.text
    message: str = response.json()["error"]["message"]
    return message


def rows_of(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(CONTRACT, transaction_id=f"{name}-{i}", customer_id=name, **changes) for i in range(count)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("home")
    serving_home(folder)
    with TestClient(create_app(settings(folder, batch_rows=130, batch_bytes=100_000))) as client:
        yield client


@pytest.mark.parametrize("kind", ENCODERS)
def test_rows_get_the_decisions_of_single_requests_in_the_same_format(client: TestClient, kind: str) -> None:
    now = datetime.now(UTC)
    transaction = rows_of(f"kind {kind}", 120)
    for i, each in enumerate(transaction):
        each |= {"event_time": (now + timedelta(seconds=i)).isoformat(), "amount": 900.0 if i % 2 else 3.5}
    answers = send(client, kind, ENCODERS[kind](transaction))
    assert [answer["transaction_id"] for answer in answers] == [each["transaction_id"] for each in transaction]
    assert not any(answer["repeated"] for answer in answers)
    assert {answer["decision"] for answer in answers} == {"fraud", "legit"}
    for each, answer in list(zip(transaction, answers, strict=True))[::40]:  # recorded, as if sent on its own
        alone = client.post("/v1/score", json=each).json()
        assert {name: answer[name] for name in alone} == alone | {"repeated": False}
    assert all(again["repeated"] for again in send(client, kind, ENCODERS[kind](transaction)))


def test_each_row_is_counted_before_the_next_one_is_decided(client: TestClient) -> None:
    now = datetime.now(UTC)
    together = rows_of("in order", 3)
    apart = rows_of("one by one", 3)
    for i in range(3):
        together[i]["event_time"] = apart[i]["event_time"] = (now + timedelta(seconds=i)).isoformat()
        together[i]["terminal_id"], apart[i]["terminal_id"] = "T-together", "T-apart"
    scores = [answer["score"] for answer in send(client, JSON, json.dumps(together).encode())]
    assert scores == [client.post("/v1/score", json=each).json()["score"] for each in apart]


@pytest.mark.parametrize("kind", [JSON, NDJSON])
def test_an_invalid_row_is_reported_at_its_position_and_affects_no_other(client: TestClient, kind: str) -> None:
    good = rows_of(f"bad {kind}", 4)
    clash = good[0] | {"amount": 1.0}
    body = ENCODERS[kind]([good[0], good[1] | {"amount": -1, "colour": 1}, good[2], clash, 7, good[3]])  # type: ignore[list-item]
    answers = send(client, kind, body)
    assert [answer.get("status", 200) for answer in answers] == [200, 422, 200, 409, 422, 200]
    assert (answers[1]["row"], answers[3]["row"]) == (1, 3)
    wrong = {problem["field"] for problem in answers[1]["error"]["fields"]}
    assert wrong == {"amount", "colour"}
    assert "already used for another transaction" in answers[3]["error"]["message"]
    assert not client.post("/v1/score", json=good[1]).json()["repeated"]


def test_a_line_that_is_not_json_affects_no_other(client: TestClient) -> None:
    first, last = (json.dumps(each).encode() for each in rows_of("lines", 2))
    body = b"\n".join([first, b"{oops", b"\xff", b"", b"[" * 9000, b"1" * 5000, b'"\xe2\x80\xa8"', last])
    answers = send(client, NDJSON, body)
    assert [answer.get("status", 200) for answer in answers] == [200, 422, 422, 422, 422, 422, 200]
    assert "column 2" in answers[1]["error"]["message"]


def test_arrow_columns_may_have_their_own_types(client: TestClient) -> None:
    times = pa.array([1_750_000_000_000] * 3, pa.timestamp("ms"))
    columns = {
        "transaction_id": pa.array([1, 2, 3]),
        "event_time": times,
        "amount": pa.array([None, float("nan"), 9.5]),
        "customer_id": pa.array(["a", "b", "a"]).dictionary_encode(),
        "terminal_id": pa.array(["t"] * 3, pa.large_string()),
        "channel": pa.nulls(3),
    }
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.table(columns).schema) as stream:
        stream.write_table(pa.table(columns))
    answers = send(client, ARROW, sink.getvalue())
    assert [answer["status"] for answer in answers] == [422, 422, None]
    assert "amount" in answers[0]["error"]
    assert (answers[2]["transaction_id"], answers[2]["error"]) == ("3", None)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_batch_that_exceeds_a_limit_is_a_413_and_nothing_is_decided(client: TestClient, kind: str) -> None:
    many = rows_of(f"many {kind}", 131)
    assert "more than 130 rows" in refusal(client, kind, ENCODERS[kind](many), 413)
    assert not client.post("/v1/score", json=many[0]).json()["repeated"]
    assert "longer than 100,000 bytes" in refusal(client, kind, b" " * 100_001, 413)


def test_a_body_without_a_length_is_limited_too(client: TestClient) -> None:
    chunks = (b" " * 10_000 for _ in range(11))  # sent in chunks, without a Content-Length
    response = client.post("/v1/score/batch", content=chunks, headers={"Content-Type": JSON})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (JSON, b"", "expected a JSON array"),
        (JSON, b"{}", "expected a JSON array"),
        (JSON, b"[", "character 1"),
        (JSON, b"[1,]", "character 3"),
        (JSON, b"[1 2]", "expected ',' or ']' at character 3"),
        (JSON, b"[1] x", "extra data at character 4"),
        (JSON, b"[\xff]", "not UTF-8"),
        (JSON, b"[" * 9000, "nested too deep"),
        (JSON, b"[" + b"1" * 5000 + b"]", "character 1"),
        (ARROW, b"", "not a readable Arrow stream"),
        (ARROW, b"no arrow at all", "not a readable Arrow stream"),
        (ARROW, as_arrow([{"amount": 1.0}])[:200], "not a readable Arrow stream"),
        (ARROW, as_arrow([{"amount": 1.0}] * 50, compression="zstd"), "compressed"),
        (ARROW, as_arrow([{"amount": [1.0]}]), "the type list"),
    ],
)
def test_a_body_that_is_not_a_batch_is_refused(client: TestClient, kind: str, body: bytes, says: str) -> None:
    assert says in refusal(client, kind, body, 422)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_batch_may_be_empty(client: TestClient, kind: str) -> None:
    body = as_arrow([{"a": 1}][:0]) if kind == ARROW else ENCODERS[kind]([])
    assert send(client, kind, body) == []


def test_another_content_type_is_a_415(client: TestClient) -> None:
    for kind in ("text/csv", "", "application/xml"):
        assert "application/x-ndjson" in refusal(client, kind, b"", 415)


@example_settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_arrow_stream_is_read_or_refused(data: st.DataObject) -> None:
    columns = {
        "a": pa.array(["x", "yy"]),
        "b": pa.array([1.5, 2.5]),
        "c": pa.nulls(2),
        "d": pa.array(["v", "v"]).dictionary_encode(),
        "e": pa.array([1, 2], pa.timestamp("s", "UTC")),
    }
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.table(columns).schema) as stream:
        stream.write_table(pa.table(columns))
    body = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = list(FORMATS[ARROW].read(bytes(body), BatchLimits(1000, 65_536, 10, 1 << 20)))
    except (TooLarge, MalformedRequest):
        return
    assert len(rows) <= 1000


def test_an_unreadable_arrow_value_is_reported_at_its_position(client: TestClient) -> None:
    rows = rows_of("arrow times", 100)
    table = pa.Table.from_pylist(rows)
    times = [1_750_000_000] * 100
    times[70] = 1 << 40  # in the year 36,812
    table = table.set_column(
        table.schema.get_field_index("event_time"), "event_time", pa.array(times, pa.timestamp("s"))
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=30)
    answers = send(client, ARROW, sink.getvalue())
    assert [answer["status"] for answer in answers] == [None] * 70 + [422] + [None] * 29
    assert [answer["transaction_id"] for answer in answers if answer["status"] is None] == [
        each["transaction_id"] for i, each in enumerate(rows) if i != 70
    ]


def test_a_batch_without_a_model_is_a_503(tmp_path: Path) -> None:
    begin(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert "none was promoted yet" in refusal(client, JSON, b"[]", 503)


def test_an_unavailable_store_is_reported_in_every_row_after_a_single_wait(tmp_path: Path) -> None:
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path, store_timeout_seconds=0.2))) as client:
        other = sqlite3.connect(tmp_path / "online" / "store.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        rows = rows_of("locked", 100)
        began = datetime.now(UTC)
        answers = send(client, JSON, json.dumps([*rows, {}]).encode())
        assert (datetime.now(UTC) - began).total_seconds() < 100 * 0.2
        other.execute("ROLLBACK")
        other.close()
        assert [answer["status"] for answer in answers] == [503] * 100 + [422]
        assert "not tried" in answers[1]["error"]["message"]
        time.sleep(PAUSE_SECONDS)  # the store is not called meanwhile
        again = send(client, JSON, json.dumps(rows).encode())
        assert not any(answer["repeated"] for answer in again)


@pytest.mark.slow
def test_one_model_decides_a_batch_while_single_requests_are_answered(tmp_path: Path) -> None:
    home = serving_home(tmp_path)
    rows = rows_of("long", 500)
    answers: list[dict[str, Any]] = []
    with running(create_app(settings(tmp_path))) as address:

        def batch() -> None:
            response = httpx.post(f"{address}/v1/score/batch", json=rows, timeout=120)
            answers.extend(response.json())

        sender = threading.Thread(target=batch)
        sender.start()
        new = promote(home, publish(home, seed=1))
        versions: set[str] = set()
        alone = 0
        while sender.is_alive():
            response = httpx.post(f"{address}/v1/score", json=rows_of(f"alone {alone}", 1)[0], timeout=10)
            versions.add(response.json()["model_version"])
            alone += 1
        sender.join()
    assert alone > 3
    assert new in versions
    assert len({answer["model_version"] for answer in answers}) == 1
    assert len(answers) == 500


def test_contracts_without_entities_accept_batches(tmp_path: Path) -> None:
    serving_home(tmp_path, "ulb")
    ulb = contracts.load("ulb")
    with TestClient(create_app(settings(tmp_path))) as client:
        answers = send(client, JSON, json.dumps([row(ulb), row(ulb, V1="x")]).encode())
        assert [answer.get("status") for answer in answers] == [None, 422]


def test_the_endpoint_is_documented(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    described = document["paths"]["/v1/score/batch"]["post"]
    assert set(described["requestBody"]["content"]) == set(ENCODERS)
    assert set(described["responses"]["200"]["content"]) == set(ENCODERS)
    assert set(described["responses"]) == {"200", "401", "403", "413", "415", "421", "422", "429", "503"}
    assert {"Transaction", "ScoreResponse", "RowError"} <= set(document["components"]["schemas"])
