"""`GET /v1/decisions`: filters, pages, cursors, and no queries in the log."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from serving_home import TestClient, row, serving_home, settings
from structlog.testing import capture_logs

from processing.contracts import reader as contracts
from processing.store.sqlite.store import SqliteStore
from serving.api.decision_search import DecisionQuery, DecisionSearch, entity_parameters
from serving.app import create_app

CONTRACT = contracts.load("transactions")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """700 decisions: 105 are flagged as fraud, only the oldest was reported."""
    folder = tmp_path_factory.mktemp("decisions")
    serving_home(folder)
    with TestClient(create_app(settings(folder))) as client:
        rows = [
            row(
                CONTRACT,
                transaction_id=f"t{i:03}",
                customer_id=f"C{i % 70}",
                terminal_id=f"T{i % 2}",
                amount=950.0 if i < 105 else 3.0,
            )
            for i in range(700)
        ]
        assert client.post("/v1/score/batch", json=rows).status_code == 200
        client.post("/v1/feedback", json={"transaction_id": "t000", "is_fraud": True})
        yield client


def matching_ids(client: TestClient, **query: Any) -> list[str]:
    """The ids on all pages."""
    ids: list[str] = []
    cursor = None
    while True:
        response = client.get("/v1/decisions", params=query | ({"cursor": cursor} if cursor else {}))
        assert response.status_code == 200, response.text
        page = response.json()
        assert len(page["decisions"]) <= query.get("limit", 50)
        ids += [one["transaction_id"] for one in page["decisions"]]
        cursor = page["next"]
        if cursor is None:
            return ids


def test_filters_match_decisions_of_any_age(client: TestClient) -> None:
    assert len(matching_ids(client, decision="fraud")) == 105
    assert matching_ids(client, label="fraud") == ["t000"]
    assert matching_ids(client, transaction_id="t001") == ["t001"]
    assert matching_ids(client, customer_id="C5", limit=3) == [f"t{i:03}" for i in range(635, 0, -70)]
    assert matching_ids(client, customer_id="C5", terminal_id="T0") == []
    assert matching_ids(client, customer_id="C5", decision="fraud") == ["t075", "t005"]
    assert len(matching_ids(client, amount_from=950)) == 105
    assert len(matching_ids(client, amount_from=950.01)) == 0
    assert matching_ids(client) == [f"t{i:03}" for i in range(699, -1, -1)]
    assert matching_ids(client, transaction_id=" ' OR 1=1 --") == []


def test_since_and_until_filter_by_the_time_of_the_decision(client: TestClient) -> None:
    times = [one["decided_at"] for one in client.get("/v1/decisions", params={"limit": 1000}).json()["decisions"]]
    middle = times[300]
    assert matching_ids(client, since=middle, limit=400) == [
        f"t{i:03}" for i in range(699, 699 - times.count(middle) - 300, -1)
    ]
    assert len(matching_ids(client, until=middle)) == sum(time < middle for time in times)
    assert len(matching_ids(client, since=middle.replace("Z", ""), until=middle)) == 0
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert matching_ids(client, since=tomorrow.isoformat()) == []


def test_new_decisions_do_not_shift_pages(client: TestClient) -> None:
    first = client.get("/v1/decisions", params={"limit": 3, "customer_id": "C1"}).json()
    client.post("/v1/score", json=row(CONTRACT, transaction_id="new", customer_id="C1"))
    query = {"limit": 3, "customer_id": "C1", "cursor": first["next"]}
    second = client.get("/v1/decisions", params=query).json()
    ids = [one["transaction_id"] for page in (first, second) for one in page["decisions"]]
    assert ids == [f"t{i:03}" for i in range(631, 631 - 6 * 70, -70)]


@examples(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_altered_cursor_is_refused(client: TestClient, data: st.DataObject) -> None:
    cursor = client.get("/v1/decisions", params={"limit": 3}).json()["next"]
    position = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda one: one != cursor[position]))
    for wrong in (cursor[:position] + other + cursor[position + 1 :], cursor[:position], cursor + other):
        if wrong:
            refused(client, cursor=wrong)


def refused(client: TestClient, **query: Any) -> None:
    response = client.get("/v1/decisions", params=query)
    assert (response.status_code, "send the `next` of the previous page" in response.text) == (422, True), response.text


def test_a_cursor_from_another_search_or_home_is_refused(client: TestClient, tmp_path: Path) -> None:
    cursor = client.get("/v1/decisions", params={"limit": 3, "decision": "fraud"}).json()["next"]
    assert client.get("/v1/decisions", params={"limit": 9, "decision": "fraud", "cursor": cursor}).status_code == 200
    for other in ({}, {"decision": "legit"}, {"decision": "fraud", "customer_id": "C1"}, {"label": "none"}):
        refused(client, cursor=cursor, **other)
    serving_home(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as elsewhere:
        refused(elsewhere, cursor=cursor, decision="fraud")


WRONG = (
    *("limit=0", "decision=maybe", "label=", "since=yesterday", "since=2026", "amount_from=nan", "amount_from=-1"),
    *("customer_id=", f"customer_id={'x' * 257}", "customer=C1", "offset=50", "decision=fraud&decision=legit"),
)


@pytest.mark.parametrize("query", WRONG)
def test_an_invalid_parameter_is_reported(client: TestClient, query: str) -> None:
    response = client.get(f"/v1/decisions?{query}")
    assert response.status_code == 422
    assert query.partition("=")[0] in response.json()["error"]["message"]


def test_no_log_contains_a_query(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even that of an unexpected error."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is on fire")

    queries = ("customer_id=secret", "transaction_id=secret", "customer_id=secret&cursor=x")
    with capture_logs() as logs:
        for query in queries:
            client.get(f"/v1/decisions?{query}")
        monkeypatch.setattr(SqliteStore, "search", fail)
        for query in queries:
            client.get(f"/v1/decisions?{query}")
            client.get(f"/console/stream?{query}")
    assert [line["event"] for line in logs] == ["request_failed"] * 4  # a bad cursor is refused before
    assert "secret" not in repr(logs)


def test_a_contract_without_entities_records_no_decisions(tmp_path: Path) -> None:
    serving_home(tmp_path, "ulb")
    with TestClient(create_app(settings(tmp_path))) as client:
        client.post("/v1/score", json=row(contracts.load("ulb")))
        assert client.get("/v1/decisions").json() == {"decisions": [], "next": None, "reached": None}


def test_an_entity_with_the_name_of_a_filter_gets_another_parameter() -> None:
    from dataclasses import replace

    first, second = CONTRACT.entities
    contract = replace(CONTRACT, entities=(replace(first, columns=("label",)), second))
    assert entity_parameters(contract) == ["entity_label", "terminal_id"]
    search = DecisionSearch(contract, "home", lambda *_, **__: None)  # type: ignore[arg-type,return-value]
    query = search.query_from_form({"entity_label": "C1", "label": "fraud", "limit": "3", "other": "x"})
    assert isinstance(query, DecisionQuery)
    store_search = search.search_of(query)
    assert (store_search.keys, store_search.label, query.limit) == (("C1", None), "fraud", 50)
