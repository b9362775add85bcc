"""The console: its pages, who may see and do what, and its use in a real browser."""

import html
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving_home import TestClient, begin, explained_home, promote, publish, row, serving_home, settings
from serving_process import serving

from pipeline.registry.api_keys import SCOPES, Key, digest, keys_with_new, keys_without, parse_keys, render_keys
from pipeline.registry.registry import POINTER, Registry
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.errors import FraudlineError
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from serving.app import create_app
from serving.console import form

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CONTRACT = contracts.load("transactions")
HOSTILE = '"><img src=x onerror=alert(1)>'
PAGES = ("/", "/console/score", "/console/feedback", "/console/versions", "/console/runs", "/console/drift", "/docs")
HTMX = {"HX-Request": "true"}
BROWSER = {"Accept": "text/html"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"} | HTMX


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a serving model, which is packed, and another one that is better."""
    folder = tmp_path_factory.mktemp("console")
    publish(explained_home(folder), 1, more={"report.html": b"<p>the report</p>"})
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings(folder))) as client:
        yield client


def typed(contract: Contract, **changes: str) -> dict[str, str]:
    """The form as shown, with some inputs changed."""
    return {field.name: field.value for field in form.inputs(contract)} | changes


@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_and_has_no_inline_scripts(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert page.text.count("<script") == page.text.count('<script src="/console/static/') == 2
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
    assert "https://" not in page.text
    assert " style=" not in page.text


def test_the_serving_model_is_shown(client: TestClient, folder: Path) -> None:
    latest = Registry(open_home(folder)).latest()
    assert latest is not None
    part = client.get("/console/serving").text
    for text in (latest.version, "by a test: to be tested", "0.700"):
        assert text in part


@pytest.mark.parametrize("name", contracts.shipped())
def test_the_form_of_every_contract_can_be_submitted_as_shown(tmp_path: Path, name: str) -> None:
    serving_home(tmp_path, name)
    contract = contracts.load(name)
    with TestClient(create_app(settings(tmp_path))) as client:
        page = client.get("/console/score").text
        for column in set(contract.columns) - {contract.label}:
            assert f'name="{html.escape(column)}"' in page
        response = client.post("/console/score", data=typed(contract), headers=HTMX)
        assert (response.status_code, "decided by" in response.text) == (200, True), response.text
        wrong = client.post("/console/score", data=typed(contract, **{contract.amount: "much"}), headers=HTMX)
        assert wrong.status_code == 422
        assert wrong.text.count('aria-invalid="true"') == 1


def test_a_decision_is_listed_with_its_reasons_and_accepts_feedback(client: TestClient) -> None:
    name = uuid.uuid4().hex
    client.post("/console/score", data=typed(CONTRACT, transaction_id=name, amount="950"), headers=HTMX)
    stream = client.get(f"/console/stream?transaction_id={name}").text
    assert stream.count(f'class="id" title="{name}">{name}') == 1
    assert "<li>" in stream
    label = client.post("/console/feedback", data={"transaction_id": name, "is_fraud": "true"}, headers=HTMX)
    assert pressed(label.text) == ["fraud"]
    text = {
        query: f'title="{name}"' in client.get(f"/console/stream?transaction_id={name}&{query}").text
        for query in ("label=fraud", "label=none", "decision=fraud", "decision=legit", "amount_from=951", "reason=no")
    }
    assert text == {
        "label=fraud": True,
        "label=none": False,
        "decision=fraud": True,
        "decision=legit": False,
        "amount_from=951": False,
        "reason=no": False,
    }


def pressed(part: str) -> list[str]:
    """The labels that a part of a page shows as reported."""
    return re.findall(r'aria-pressed="true"[^>]*>(\w+)<', part)


def test_an_invalid_filter_is_reported_on_the_page(client: TestClient) -> None:
    for query in ("amount_from=x", "since=yesterday", "decision=maybe", "cursor=abc"):
        part = client.get(f"/console/stream?{query}", headers=HTMX)
        assert (part.status_code in (400, 422), 'role="alert"' in part.text) == (True, True)
        assert query.partition("=")[0] in part.text
        assert client.get(f"/?{query}").status_code == 200


def test_text_from_callers_is_always_escaped(client: TestClient) -> None:
    name = HOSTILE + uuid.uuid4().hex
    assert client.post("/v1/score", json=row(CONTRACT, transaction_id=name, amount=950.0)).status_code == 200
    pages = [
        client.get("/console/stream"),
        client.get("/", params={"reason": HOSTILE, "amount_from": HOSTILE, "cursor": HOSTILE, "customer_id": HOSTILE}),
        client.get("/console/stream", params={"amount_from": HOSTILE}, headers=HTMX),
        client.get("/console/stream", params={"customer_id": HOSTILE}),
        client.post("/console/score", data=typed(CONTRACT, transaction_id=name, amount=HOSTILE), headers=HTMX),
        client.post("/console/feedback", data={"transaction_id": name, "is_fraud": "true"}, headers=HTMX),
        client.post("/console/feedback", data={"transaction_id": HOSTILE, "is_fraud": "true"}, headers=HTMX),
        client.post("/console/promote", data={"version": HOSTILE, "reason": HOSTILE}, headers=HTMX),
        client.get(f"/report/{HOSTILE}", headers=BROWSER),
    ]
    for page in pages:
        assert "<img" not in page.text
    assert any(html.escape(HOSTILE) in page.text for page in pages)


@pytest.mark.parametrize("headers", [{}, HTMX | {"Origin": "https://elsewhere.example"}, HTMX | {"Origin": "null"}])
def test_another_site_cannot_change_anything(client: TestClient, folder: Path, headers: dict[str, str]) -> None:
    before = Registry(open_home(folder)).latest()
    for path in ("/console/score", "/console/feedback", "/console/promote", "/console/rollback"):
        assert client.post(path, data={"version": "2", "reason": "x"}, headers=headers).status_code == 403
    assert Registry(open_home(folder)).latest() == before


def test_versions_are_promoted_with_a_reason_and_rolled_back(tmp_path: Path) -> None:
    registry = Registry(serving_home(tmp_path))
    before = registry.latest()
    assert before is not None
    other = publish(registry.home, 1, more={"report.html": b"<p>the report</p>"})
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/console/promote", data={"version": other}, headers=HTMX).status_code == 409
        response = client.post("/console/promote", data={"version": other, "reason": "a try"}, headers=HTMX)
        latest = registry.latest()
        assert latest is not None
        assert (latest.version, latest.by, latest.reason) == (other, "the console", "a try")
        assert f"Promoted {other}" in response.text
        report = client.get(f"/report/{other}")
        assert report.text == "<p>the report</p>"
        assert report.headers["Content-Security-Policy"].startswith("default-src 'none'")
        stale = client.post("/console/rollback", data={"serving": before.version}, headers=HTMX)
        assert "Nothing was changed" in stale.text
        client.post("/console/rollback", data={"serving": other}, headers=HTMX)
        now = registry.latest()
        assert now is not None
        assert now.version == before.version


def test_damaged_versions_are_shown_with_the_others(tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    serves = Registry(home).names()[0]
    cut, sound = publish(home, 1), publish(home, 2)
    home.write(f"models/{cut}/manifest.json", home.read(f"models/{cut}/manifest.json")[:-20])
    with TestClient(create_app(settings(tmp_path))) as client:
        page = client.get("/console/versions")
        assert page.status_code == 200
        for text in (serves, cut, sound, "damaged", "manifest.json is damaged", "restore the file"):
            assert text in page.text
        home.write(f"models/{serves}/metrics.json", b"{")
        home.write(POINTER, home.read(POINTER)[:-20])
        page = client.get("/console/versions")
        assert page.status_code == 200
        for text in (serves, cut, sound, "latest.json is damaged", "fraudline home repair"):
            assert text in page.text
        assert client.get("/console/serving").status_code == 200
        assert client.post("/v1/score", json=row(CONTRACT)).status_code == 200


def test_runs_show_accepted_and_refused_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = serving_home(tmp_path)
    data = b'{"rows_accepted": 1200, "rows_new": 1100, "rows_refused": 34, "files": [{"name": "<b>.csv", "bytes": 9}]}'
    home.write("runs/one/features.json", data)
    home.write("runs/one/outcome.json", b'{"status": "Succeeded", "started": "2026-03-01T12:00:00.000Z"}')
    home.write("runs/two/outcome.json", b'{"status": "Failed", "reason": "no rows", "started": "x"}')
    home.write("runs/three/features.json", b"{garbled")
    with TestClient(create_app(settings(tmp_path))) as client:
        page = client.get("/console/runs").text
        for text in ("1,200", "1,100", "34", "&lt;b&gt;.csv", "no rows", "2026-03-01 12:00:00"):
            assert text in page

        def denied(*_: object) -> list[str]:
            raise FraudlineError("s3:ListBucket was refused")

        monkeypatch.setattr(LocalHome, "folders", denied)
        page = client.get("/console/runs")
        assert (page.status_code, "no permission to read the runs" in page.text) == (200, True)


@pytest.mark.slow
def test_drift_without_a_reference_is_reported(client: TestClient) -> None:
    part = client.get("/console/drift/measured", headers=HTMX)
    assert (part.status_code, "has no reference.json" in part.text) == (400, True)


def test_the_documentation_has_every_route(client: TestClient) -> None:
    page = client.get("/docs").text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page
        assert not path.startswith("/console")


def test_pages_without_a_model_say_so(tmp_path: Path) -> None:
    begin(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert "No model is serving" in client.get("/console/serving").text
        assert "no model is loaded" in client.post("/console/score", data=typed(CONTRACT), headers=HTMX).text
        assert client.get("/report", headers=BROWSER).status_code == 503
        assert "No models yet" in client.get("/console/versions").text


@pytest.fixture(scope="module")
def guarded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    publish(explained_home(folder), 1)
    return folder


@pytest.fixture(scope="module")
def tokens(guarded_folder: Path) -> dict[str, str]:
    """A key for each scope, and an expired one."""
    keys: tuple[Key, ...] = ()
    tokens = {"old": "fraudline_old"}
    for name in ("score", "feedback", "admin"):
        keys, tokens[name] = keys_with_new(keys, name, [name])
    past = datetime.now(UTC) - timedelta(days=1)
    old = Key("old", digest("fraudline_old"), ("admin",), "", past.isoformat())
    (guarded_folder / "keys.json").write_text(render_keys([*keys, old]))
    return tokens


class TestKeys:
    @pytest.fixture
    def guarded(self, guarded_folder: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
        with TestClient(create_app(settings(guarded_folder)), follow_redirects=False) as client:
            yield client

    def signed_in(self, client: TestClient, token: str) -> None:
        client.cookies.clear()
        response = client.post("/console/sign-in", data={"key": token}, headers=HTMX)
        assert (response.status_code, response.headers["HX-Redirect"]) == (200, "/")

    def test_signing_in_stores_the_key_out_of_reach_of_scripts_and_other_sites(
        self, guarded: TestClient, tokens: dict[str, str]
    ) -> None:
        response = guarded.post("/console/sign-in", data={"key": tokens["admin"]}, headers=HTMX)
        flags = {part.strip().lower() for part in response.headers["Set-Cookie"].split(";")[1:]}
        assert flags == {"httponly", "samesite=strict", "path=/"}
        assert guarded.get("/", headers=BROWSER).status_code == 200
        out = guarded.post("/console/sign-out", headers=HTMX)
        assert 'fraudline_key=""' in out.headers["Set-Cookie"]
        wrong = guarded.post("/console/sign-in", data={"key": tokens["old"]}, headers=HTMX)
        assert (wrong.status_code, "Set-Cookie" in wrong.headers) == (401, False)
        over_tls = HTMX | {"X-Forwarded-Proto": "https"}
        assert (
            "; Secure"
            in guarded.post("/console/sign-in", data={"key": tokens["admin"]}, headers=over_tls).headers["Set-Cookie"]
        )

    def test_the_cookie_is_not_accepted_by_the_api(self, guarded: TestClient, tokens: dict[str, str]) -> None:
        self.signed_in(guarded, tokens["score"])
        assert guarded.post("/v1/score", json=row(CONTRACT)).status_code == 401
        self.signed_in(guarded, tokens["admin"])
        for path in ("/v1/decisions", "/v1/model", "/metrics"):
            assert guarded.get(path).status_code == 401

    def test_actions_that_a_key_does_not_allow_are_hidden_and_refused(
        self, guarded: TestClient, tokens: dict[str, str]
    ) -> None:
        actions = {
            "score": lambda: guarded.post("/console/score", data=typed(CONTRACT), headers=HTMX),
            "feedback": lambda: guarded.post(
                "/console/feedback", data={"transaction_id": "none", "is_fraud": "true"}, headers=HTMX
            ),
            "admin": lambda: guarded.get("/console/versions", headers=BROWSER),
        }
        first = {"score": "/console/score", "feedback": "/console/feedback"}
        for name in actions:
            self.signed_in(guarded, tokens[name])
            for scope, act in actions.items():
                assert (act().status_code == 403) == (scope != name)
            for path in ("/console/promote", "/console/rollback"):
                refused = guarded.post(path, data={"version": "2", "reason": "x"}, headers=HTMX).status_code
                assert refused == (409 if name == "admin" else 403)
            home = guarded.get("/", headers=BROWSER)
            assert home.headers.get("Location") == first.get(name)
            page = guarded.get(first.get(name, "/"), headers=BROWSER).text
            assert ('href="/console/score"' in page) == (name == "score")
            assert ('href="/console/versions"' in page) == (name == "admin")

    def test_without_a_valid_key_every_page_leads_to_sign_in(self, guarded: TestClient, tokens: dict[str, str]) -> None:
        for path in (*PAGES, "/report", "/console/stream"):
            guarded.cookies.clear()
            assert guarded.get(path, headers=BROWSER).headers["Location"] == "/console/sign-in"
            assert guarded.get(path).status_code == 401
            guarded.cookies.set("fraudline_key", tokens["old"])
            response = guarded.get(path, headers=HTMX)
            assert (response.status_code, response.headers["HX-Redirect"]) == (401, "/console/sign-in?ended=1")
        assert "has expired, was revoked" in guarded.get("/console/sign-in?ended=1").text
        assert guarded.get("/console/static/htmx.min.js").status_code == 200
        assert guarded.get("/console/static/../routes.py").status_code in (401, 404)


@pytest.mark.browser
class TestBrowser:
    @pytest.fixture(scope="class")
    @classmethod
    def address(cls, guarded_folder: Path, tokens: dict[str, str]) -> Iterator[str]:
        """A server process with keys, and one key more, for everything."""
        keys = parse_keys((guarded_folder / "keys.json").read_text(), "test")
        keys, tokens["all"] = keys_with_new(keys, "all", SCOPES)
        (guarded_folder / "keys.json").write_text(render_keys(keys))
        with serving(guarded_folder, guarded_folder / "log") as address:
            yield address

    @pytest.fixture
    def page(self, browser: "Browser", address: str, tokens: dict[str, str]) -> "Iterator[Page]":
        """Signed in, as a person does it, on a phone; nothing may be wrong in the browser's console."""
        context = browser.new_context(base_url=address, viewport={"width": 360, "height": 700})
        page = context.new_page()
        page.goto("/")
        assert page.url == f"{address}/console/sign-in"
        page.keyboard.type(tokens["all"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#version")
        yield page
        context.close()

    @pytest.mark.slow
    def test_a_transaction_is_scored_by_keyboard_and_appears_in_the_stream(self, page: "Page") -> None:
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        overview = page.context.new_page()
        overview.goto("/")
        page.goto("/console/score")
        page.focus("input[name=transaction_id]")
        name = page.input_value("input[name=transaction_id]")
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.name") == "amount":
                break
        page.keyboard.type("950")
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "score":
                break
        page.keyboard.press("Enter")
        page.wait_for_selector(".verdict")
        assert "fraud: score" in page.inner_text(".verdict")
        assert page.evaluate("document.activeElement.id") == "score"  # ready for the next one
        overview.click("#load-new")
        overview.wait_for_selector(f"#stream td .id:text-is('{name}')")
        overview.click(f"button[aria-label='Report {name} as fraud']")
        overview.wait_for_selector(f"#stream tr:has-text('{name}') .label [aria-pressed=true]:text-is('fraud')")
        assert wrong == []

    @pytest.mark.slow
    def test_a_promotion_appears_without_reloading(self, page: "Page", guarded_folder: Path) -> None:
        registry = Registry(open_home(guarded_folder))
        before = page.inner_text("#version")
        page.evaluate("window.notReloaded = true")
        other = next(name for name in registry.names() if name != before)
        promote(registry.home, other)
        page.wait_for_selector(f"#version:text-is('{other}')")
        assert page.evaluate("window.notReloaded") is True

    def test_every_page_fits_a_phone(self, page: "Page") -> None:
        for path in (*PAGES, "/console/sign-in"):
            page.goto(path)
            page.wait_for_load_state()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path

    def test_revoking_the_key_leads_to_the_sign_in_page(self, page: "Page", guarded_folder: Path) -> None:
        file = guarded_folder / "keys.json"
        file.write_text(render_keys(keys_without(parse_keys(file.read_text(), "test"), "all")))
        page.wait_for_url("**/console/sign-in?ended=1")
        assert "has expired, was revoked" in page.inner_text(".refused")
