"""Malformed requests: none makes the server fail, and each gets an error that says why."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.parameters import ParameterLocation
from serving_home import TestClient, row, running, serving_home, settings

from pipeline.registry.api_keys import SCOPES, HomeKeys, keys_with_new
from processing.contracts import reader as contracts
from serving.app import create_app
from serving.routes import batch

CONTRACT = contracts.load("transactions")
MOST = 65_536


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    home = serving_home(folder)
    keys, token = keys_with_new((), "fuzz", SCOPES)
    HomeKeys(home).write(keys, None)
    (folder / "token").write_text(token)
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> FastAPI:
    return create_app(settings(folder))


@pytest.fixture(scope="module")
def client(app: FastAPI, key: dict[str, str]) -> Iterator[TestClient]:
    with TestClient(app, headers=key) as client:
        yield client


@pytest.fixture(scope="module")
def key(folder: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {(folder / 'token').read_text()}"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_responses_follow_the_openapi_document(
    app: FastAPI, client: TestClient, key: dict[str, str], mode: GenerationMode
) -> None:
    """Responses are as documented, what the document does not allow is refused, and there is no 5xx."""
    times = st.datetimes(datetime(2000, 1, 2), datetime(2026, 1, 1), timezones=st.just(UTC))
    schemathesis.openapi.format("date-time", times.map(datetime.isoformat))  # a schema cannot say "not in the future"
    schemathesis.openapi.format("cursor", st.just(""))  # nor that a cursor was handed out
    document = schemathesis.openapi.from_asgi("/openapi.json", app, headers=key)
    paths = set()
    for result in document.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # nothing can be invalid
        if mode is GenerationMode.NEGATIVE and operation.path == batch.PATH:
            continue  # an invalid row is reported in its place, with 200

        @examples(
            max_examples=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Case) -> None:
            if mode is GenerationMode.NEGATIVE:  # test_keys.py tests the header
                invalid = {location for location, part in case.meta.components.items() if part.mode is mode}
                assume(invalid - {ParameterLocation.HEADER})
                assume(all(value not in ([], {}, None) for value in (case.query or {}).values()))  # would not be sent
            case.call_and_validate(headers=key)

        holds()
        paths.add(operation.path)
    assert paths >= {"/v1/score", "/v1/feedback", "/v1/decisions"}


def body(**changes: Any) -> bytes:
    return json.dumps(row(CONTRACT, transaction_id=uuid.uuid4().hex) | changes).encode()


NESTED = b'{"a":' * 5000 + b"1" + b"}" * 5000
BODIES = {
    "list for a number": (body(amount=[1]), 422, "amount"),
    "object for an id": (body(customer_id={"a": 1}), 422, "customer_id"),
    "huge integer": (body(amount=10**300), 422, "amount"),
    "huger integer": (body(amount=0).replace(b'"amount": 0', b'"amount": 1' + b"0" * 5000), 422, None),
    "huge exponent": (body(amount=0).replace(b'"amount": 0', b'"amount": 1e99999'), 422, "amount"),
    "not a number": (body(amount=float("nan")), 422, "amount"),
    "infinity": (body(amount=float("-inf")), 422, "amount"),
    "huge id": (body(customer_id="x" * 50_000), 422, "customer_id"),
    "huge number for an id": (body(customer_id=10**400), 422, "customer_id"),
    "time as a bomb": (body(event_time="9" * 4000), 422, "event_time"),
    "unknown field": (body(**{"\u0000": 1}), 422, "\u0000"),
    "deep nesting": (NESTED, 422, None),
    "deep nesting in a field": (body(amount=0).replace(b'"amount": 0', b'"amount": ' + NESTED), 422, None),
    "bad UTF-8": (body(customer_id="x").replace(b'"x"', b'"\xff\xfe"'), 422, None),
    "half a surrogate": (body(customer_id="\ud800"), 422, None),
    "truncated": (body()[:-5], 422, None),
    "empty": (b"", 422, None),
    "not JSON": (b"amount=1&customer_id=2", 422, None),
    "a list": (b"[" + body() + b"]", 422, None),
    "10 MB": (body(customer_id="x" * 10_000_000), 413, None),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_body_is_refused_with_a_reason(client: TestClient, name: str) -> None:
    sent, status, field = BODIES[name]
    response = client.post("/v1/score", content=sent, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text[:300]
    error = response.json()["error"]
    assert error["message"]
    assert len(response.content) < 2_000  # does not echo the body
    assert [problem["field"] for problem in error["fields"]] == ([] if field is None else [field])
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "json"])
@pytest.mark.parametrize("path", ["/v1/score", "/v1/feedback"])
def test_another_content_type_is_refused(client: TestClient, path: str, kind: str) -> None:
    response = client.post(path, content=body(), headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["message"]
    assert client.post(path, content=body(), headers={"Content-Type": "Application/JSON; charset=utf-8"}).is_error == (
        path == "/v1/feedback"
    )


def test_a_body_is_never_read_beyond_its_limit(app: FastAPI, client: TestClient, key: dict[str, str]) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(2_000):
            yield b"x" * 10_000

    with running(app) as address, httpx.Client(base_url=address, timeout=20) as caller:
        headers = {"Content-Type": "application/json"} | key
        try:
            response = caller.post("/v1/score", content=endless(), headers=headers)
            assert response.status_code == 413
        except httpx.TransportError:  # the server may hang up while the caller still sends
            pass
        exact = body()
        exact = exact[:-1] + b" " * (MOST - len(exact)) + b"}"
        assert len(exact) == MOST
        assert caller.post("/v1/score", content=exact, headers=headers).status_code == 200
        assert caller.post("/v1/score", content=exact + b" ", headers=headers).status_code == 413
