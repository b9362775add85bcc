"""All paths of the API and the console: HEAD responds like GET, and a 404 page has links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_home import TestClient, explained_home, running, settings
from starlette.routing import Route

from pipeline.registry.api_keys import HomeKeys, keys_with_new
from processing.storage.open import open_home
from serving.app import create_app

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    explained_home(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings(folder)), follow_redirects=False) as client:
        yield client


def paths(client: TestClient, method: str) -> list[str]:
    routes: list[Any] = client.app.routes  # type: ignore[attr-defined]
    return [
        re.sub(r"\{\w+\}", "x", route.path)
        for route in routes
        if isinstance(route, Route) and method in (route.methods or ())
    ]


@pytest.mark.slow
def test_head_responds_like_get_without_the_body(client: TestClient) -> None:
    every = paths(client, "GET")
    assert {"/health/ready", "/health/live", "/metrics", "/v1/model", "/", "/console/runs"} <= set(every)
    for path in every:
        got, head = client.get(path), client.head(path)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        assert head.headers.get("content-type") == got.headers.get("content-type")
        assert ("content-length" in head.headers) == ("content-length" in got.headers)


def test_the_connection_can_be_used_after_head(folder: Path) -> None:
    with running(create_app(settings(folder))) as address, httpx.Client(base_url=address) as http:
        for _ in range(3):
            head = http.head("/health/ready")
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 10
            assert http.get("/health/ready").json()["model_version"]
        assert 'route="/health/ready"' in http.get("/metrics").text


def test_head_of_a_post_route_is_refused(client: TestClient) -> None:
    for path in set(paths(client, "POST")) - set(paths(client, "GET")):
        assert client.head(path).status_code == 405, path


@pytest.mark.parametrize("path", ["/console/nothing", "/consol", "/console/versions/x/y", "/<script>"])
def test_an_unknown_page_has_links_and_programs_get_json(client: TestClient, path: str) -> None:
    page = client.get(path, headers=BROWSER)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "there is no page" in page.text
    assert "<script>" not in page.text
    links = re.findall(r'<a href="([^"]+)">', page.text)
    assert {"/", "/console/versions", "/console/runs"} <= set(links)
    for link in links:
        assert client.get(link, headers=BROWSER).status_code in (200, 303)
    refused = client.get(path)
    assert refused.status_code == 404
    assert refused.json()["error"]["message"]


def test_an_unknown_page_links_the_pages_that_the_key_may_open(tmp_path: Path) -> None:
    explained_home(tmp_path)
    keys, token = keys_with_new((), "boss", ["admin"])
    HomeKeys(open_home(tmp_path)).write(keys, None)
    with TestClient(create_app(settings(tmp_path)), headers=BROWSER, follow_redirects=False) as client:
        assert client.get("/console/nothing").headers["location"].startswith("/console/sign-in")
        page = client.get("/console/nothing", headers={"authorization": f"Bearer {token}"})
    assert page.status_code == 404
    assert '"/console/runs"' in page.text
    assert '"/console/score"' not in page.text
