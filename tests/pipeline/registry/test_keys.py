"""API keys: their scopes and rates, and the command that manages them."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from serving_home import TestClient, row, serving_home, settings
from structlog.testing import capture_logs
from typer.testing import CliRunner

from pipeline.command.main import app as command
from pipeline.infrastructure.scoring_api import NO_KEYS
from pipeline.registry.api_keys import (
    HomeKeys,
    Key,
    SecretKeys,
    digest,
    edit_keys,
    find_key,
    keys_with_new,
    keys_without,
    parse_keys,
    render_keys,
)
from processing.aws_client import client as aws_client
from processing.contracts import reader as contracts
from processing.errors import BadInput, Conflict, NotFound
from processing.storage.open import open_home
from serving.api import guard, key_ring
from serving.api.guard import scope_of
from serving.api.key_ring import KeyRing, RateLimiter
from serving.app import create_app
from serving.settings import Settings, read_settings

CONTRACT = contracts.load("transactions")
SOON = datetime.now(UTC) + timedelta(days=1)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def fresh() -> dict[str, object]:
    """A transaction with a new id."""
    return row(CONTRACT, transaction_id=uuid.uuid4().hex)


class TestDocument:
    def test_a_key_is_found_only_by_its_token(self) -> None:
        keys, till = keys_with_new((), "till", ["score"])
        keys, office = keys_with_new(keys, "office", ["feedback", "admin"], expires=SOON, per_second=2.5)
        assert parse_keys(render_keys(keys), "test") == keys
        now = datetime.now(UTC)
        assert [find_key(keys, token, now) for token in (till, office)] == list(keys)
        for other in ("", till[:-1], till + "x", keys[0].sha256, till.upper()):
            assert find_key(keys, other, now) is None
        assert find_key(keys, office, SOON) is None
        assert find_key(keys_without(keys, "till"), till, now) is None

    def test_the_document_contains_no_token(self) -> None:
        keys, token = keys_with_new((), "till", ["score"])
        assert token not in render_keys(keys)
        assert token.removeprefix("fraudline_") not in render_keys(keys)
        assert len({keys_with_new((), "till", ["score"])[1] for _ in range(100)}) == 100

    @pytest.mark.parametrize(
        ("name", "scopes", "expires", "message"),
        [
            ("Till 1", ["score"], None, "not a valid key name"),
            ("till", ["score"], None, "already|there is a key named"),
            ("new", [], None, "one or more of the scopes"),
            ("new", ["write"], None, "one or more of the scopes"),
            ("new", ["score"], datetime(2020, 1, 1, tzinfo=UTC), "already have expired"),
        ],
    )
    def test_an_invalid_key_is_not_created(
        self, name: str, scopes: list[str], expires: datetime | None, message: str
    ) -> None:
        keys, _ = keys_with_new((), "till", ["score"])
        with pytest.raises(BadInput, match=message):
            keys_with_new(keys, name, scopes, expires=expires)

    @pytest.mark.parametrize(
        "entry",
        [
            {"sha256": "short"},
            {"scopes": ["root"]},
            {"scopes": None},
            {"expires": "soon"},
            {"expires": "2027-01-01"},
            {"name": "two words"},
            {"per_second": 0},
            {"more": 1},
        ],
        ids=str,
    )
    def test_a_document_with_an_invalid_entry_is_refused(self, entry: dict[str, object]) -> None:
        (key,), _ = keys_with_new((), "till", ["score"])
        whole = json.loads(render_keys([key]))["keys"][0]
        with pytest.raises(BadInput, match="test is not a keys document"):
            parse_keys(json.dumps({"keys": [whole | entry]}), "test")

    @pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"keys": 1}', '{"keys": [[]]}'])
    def test_other_text_is_refused_as_a_keys_document(self, text: str) -> None:
        with pytest.raises(BadInput, match="not a keys document"):
            parse_keys(text, "test")

    def test_a_deployment_starts_with_a_document_without_keys(self) -> None:
        assert parse_keys(NO_KEYS, "test") == ()


def test_concurrent_changes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    place = HomeKeys(open_home(tmp_path))
    first, tag = place.read()
    place.write(keys_with_new(first, "a", ["score"])[0], tag)
    with pytest.raises(Conflict):
        place.write(keys_with_new(first, "b", ["score"])[0], tag)
    assert [key.name for key in place.read()[0]] == ["a"]


def test_a_rate_is_an_average_that_allows_a_burst_of_one_second() -> None:
    rates, key = RateLimiter(10.0), Key("till", "0" * 64, ("score",), "")
    assert [rates.wait(key, 0.0) for _ in range(10)] == [0.0] * 10
    assert 0.0 < rates.wait(key, 0.0) <= 0.1
    assert rates.wait(key, 0.1) == 0.0
    assert rates.wait(key, 0.1) > 0.0
    assert sum(rates.wait(key, 100 + i / 1000) == 0.0 for i in range(3000)) in range(39, 42)  # 3 s, and the burst
    slow = Key("slow", "1" * 64, ("score",), "", per_second=0.5)
    assert rates.wait(slow, 0.0) == 0.0
    assert rates.wait(slow, 0.0) == pytest.approx(2.0)


def test_unlisted_paths_need_the_admin_scope() -> None:
    assert {path: scope_of(path) for path in ("/v1/score", "/v1/score/batch", "/v1/feedback")} == {
        "/v1/score": "score",
        "/v1/score/batch": "score",
        "/v1/feedback": "feedback",
    }
    for path in ("/", "/v1/scores", "/metrics", "/docs", "/v1/decisions", "//v1/score", "/V1/score"):
        assert scope_of(path) == "admin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    serving_home(folder)
    return folder


class TestApi:
    @pytest.fixture
    def tokens(self, folder: Path) -> dict[str, str]:
        """A key for each scope, one that has expired, and one limited to a request every ten seconds."""
        keys: tuple[Key, ...] = ()
        tokens = {}
        for name in ("score", "feedback", "admin"):
            keys, tokens[name] = keys_with_new(keys, name, [name])
        keys, tokens["slow"] = keys_with_new(keys, "slow", ["score"], per_second=0.1)
        old = Key("old", digest("fraudline_old"), ("score",), "", (SOON - timedelta(days=2)).isoformat())
        tokens["old"] = "fraudline_old"
        (folder / "keys.json").write_text(render_keys([*keys, old]))
        return tokens

    @pytest.fixture
    def client(self, folder: Path, tokens: dict[str, str]) -> Iterator[TestClient]:
        with TestClient(create_app(settings(folder))) as client:
            yield client

    def test_each_scope_grants_only_its_own_routes(self, client: TestClient, tokens: dict[str, str]) -> None:
        transaction = row(CONTRACT, transaction_id="k1")
        routes = {
            "score": lambda key: client.post("/v1/score", json=transaction, headers=bearer(key)),
            "feedback": lambda key: client.post(
                "/v1/feedback", json={"transaction_id": "k1", "is_fraud": True}, headers=bearer(key)
            ),
            "admin": lambda key: client.get("/v1/decisions", headers=bearer(key)),
        }
        for needed, ask in routes.items():
            for scope in routes:
                assert ask(tokens[scope]).status_code == (200 if scope == needed else 403)
        refused = routes["score"](tokens["admin"]).json()["error"]["message"]
        assert refused == "the key 'admin' is for admin; /v1/score needs score"

    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwdw==", "Bearer fraudline_old"]
    )
    def test_only_health_answers_without_a_valid_key(self, client: TestClient, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        for path in ("/", "/v1/model", "/docs", "/openapi.json", "/nothing", "/health"):
            reply = client.get(path, headers=headers)
            assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert reply.json()["error"]["message"]
        assert client.post("/v1/score", json=fresh(), headers=headers).status_code == 401
        assert client.get("/health/ready").status_code == 200

    def test_a_key_that_exceeds_its_rate_has_to_wait(self, client: TestClient, tokens: dict[str, str]) -> None:
        replies = [client.post("/v1/score", json=fresh(), headers=bearer(tokens["slow"])) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [200, 429]
        assert replies[1].headers["Retry-After"] == "10"
        assert client.post("/v1/score", json=fresh(), headers=bearer(tokens["score"])).status_code == 200

    def test_key_changes_apply_and_a_damaged_file_changes_nothing(
        self, client: TestClient, folder: Path, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(key_ring, "LOOK_SECONDS", 0.01)
        file = folder / "keys.json"
        keys = parse_keys(file.read_text(), "test")

        def status(token: str) -> int:
            return client.post("/v1/score", json=fresh(), headers=bearer(token)).status_code

        def follows(*expected: tuple[str, int]) -> bool:
            """Whether these status codes are reached soon and then stay."""
            deadline = time.monotonic() + 20
            while [status(token) for token, _ in expected] != [code for _, code in expected]:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
            time.sleep(0.1)  # more looks at the file, which must change nothing
            return [status(token) for token, _ in expected] == [code for _, code in expected]

        more, new = keys_with_new(keys, "new", ["score"])
        assert status(new) == 401
        file.write_text(render_keys(more))
        assert follows((new, 200), (tokens["score"], 200))  # both work while callers switch over
        file.write_text(render_keys(keys_without(more, "score")))
        assert follows((new, 200), (tokens["score"], 401))
        file.write_text("{")
        assert follows((new, 200), ("wrong", 401))
        file.unlink()
        assert follows((new, 200), ("wrong", 401))
        file.write_text(render_keys(()))
        assert follows((new, 401))

    def test_the_log_contains_key_names_but_no_tokens(self, client: TestClient, tokens: dict[str, str]) -> None:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            for token in (*tokens.values(), "wrong-key"):
                client.post("/v1/score", json=fresh(), headers=bearer(token))
        assert {line.get("key") for line in lines if line["event"] == "decision"} == {"score", "slow"}
        assert not [token for token in (*tokens.values(), "wrong-key") if token in str(lines)]

    def test_every_response_has_security_headers(self, client: TestClient, tokens: dict[str, str]) -> None:
        admin = bearer(tokens["admin"])
        for reply in (client.get("/v1/model"), client.get("/v1/model", headers=admin), client.get("/health/live")):
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        page = client.get("/docs", headers=admin).headers["Content-Security-Policy"]
        assert page.startswith("default-src 'self'")


class TestHost:
    """DNS rebinding: a foreign host name that resolves to this machine gets no answer."""

    @pytest.fixture
    def client(self, tmp_path: Path) -> Iterator[TestClient]:
        serving_home(tmp_path)
        with TestClient(create_app(settings(tmp_path))) as client:
            yield client

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "127.9.8.7", "[::1]", "[::1]:80", "LocalHost:1"])
    def test_requests_to_this_machine_are_answered_without_keys(self, client: TestClient, host: str) -> None:
        assert client.get("/v1/decisions", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example#localhost",
            "user@localhost",
            "10.0.0.1",
            "[::2]",
            "::1",
            "0.0.0.0",
            "localhost:8080:1",
            "localhost:port",
            "",
        ],
    )
    def test_requests_to_another_host_are_refused(self, client: TestClient, host: str) -> None:
        headers = {"Host": host, "HX-Request": "true", "Origin": f"http://{host}"}
        response = client.get("/v1/model", headers=headers)
        assert (response.status_code, "fraudline keys add" in response.json()["error"]["message"]) == (421, True)
        for path in ("/", "/health/live", "/v1/decisions", "/metrics", "/nothing", "/console/sign-in"):
            assert client.get(path, headers=headers).status_code == 421
        feedback = {"transaction_id": "x", "is_fraud": True}
        assert client.post("/v1/feedback", json=feedback, headers=headers).status_code == 421
        assert client.post("/console/versions/x/promote", headers=headers).status_code == 421

    @given(st.lists(st.sampled_from([b"127.0.0.1", b"localhost:80", b"[::1]", b"evil.example", b""]), max_size=3))
    def test_exactly_one_host_header_is_accepted(self, hosts: list[bytes]) -> None:
        headers = [(b"accept", b"*/*"), *((b"host", host) for host in hosts), (b"x-host", b"localhost")]
        ours = {b"127.0.0.1", b"localhost:80", b"[::1]"}
        assert guard.names_this_machine(headers) == (len(hosts) == 1 and hosts[0] in ours)

    def test_any_host_is_accepted_if_there_are_keys(self, client: TestClient, tmp_path: Path) -> None:
        keys, token = keys_with_new((), "office", ["admin"])
        (tmp_path / "keys.json").write_text(render_keys(keys))
        with TestClient(create_app(settings(tmp_path)), base_url="http://api.example") as client:
            assert client.get("/v1/model", headers=bearer(token)).status_code == 200
            assert client.get("/health/ready").status_code == 200


class TestSettings:
    def test_other_machines_are_served_only_if_there_are_keys(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="fraudline keys add"):
            read_settings(home=str(tmp_path), host="0.0.0.0")
        (tmp_path / "keys.json").write_text(NO_KEYS)
        assert read_settings(home=str(tmp_path), host="0.0.0.0").host == "0.0.0.0"
        assert read_settings(home="s3://bucket/home", host="0.0.0.0", api_keys=NO_KEYS).host == "0.0.0.0"
        with pytest.raises(BadInput, match="fraudline keys add"):
            read_settings(home="s3://bucket/home", host="0.0.0.0")

    def test_an_invalid_document_stops_the_start_and_is_not_printed(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="FRAUDLINE_API_KEYS is not a keys document") as error:
            KeyRing('{"keys": "hunter2"}', None)
        assert "hunter2" not in str(error.value)

    def test_workers_get_the_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUDLINE_API_KEYS", NO_KEYS)
        monkeypatch.setenv("FRAUDLINE_HOST", "0.0.0.0")
        configured = read_settings()
        assert NO_KEYS not in repr(configured)
        for name in ("FRAUDLINE_API_KEYS", "FRAUDLINE_HOST"):
            assert configured.variables()[name] == os.environ[name]


class TestAddress:
    """A home requires its keys however its address is spelled."""

    @pytest.fixture
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A home with keys, in a folder that is both HOME and the working folder."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        home = tmp_path / "a home"
        serving_home(home)
        (home / "keys.json").write_text(NO_KEYS)
        (tmp_path / "link").symlink_to(home)
        return home

    @pytest.mark.parametrize(
        "address",
        ["{home}", "~/a home", "a home", "./link/../a home", "link", "~/link", "file://{url}", "FILE://localhost{url}"],
    )
    def test_keys_are_required_for_every_spelling_of_the_address(self, home: Path, address: str) -> None:
        address = address.format(home=home, url=quote(str(home)))
        configured = read_settings(home=address, port=0)
        assert configured.home == home.as_uri()
        assert read_settings(home=configured.home, port=0) == configured  # as in a worker
        for one in (configured, Settings(home=address, port=0, host="0.0.0.0")):
            with TestClient(create_app(one)) as client:
                assert client.get("/v1/decisions").status_code == 401

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "command", [["-m", "serving"], ["-m", "pipeline.command.main", "serve", "--home=~/a home"]]
    )
    def test_a_server_process_requires_keys_too(self, home: Path, command: list[str]) -> None:
        variables = {"FRAUDLINE_HOME": "~/a home", "FRAUDLINE_PORT": "0", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | variables, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split(" on ")[1].split()[0]
            assert httpx.get(f"{address}/v1/decisions", timeout=60).status_code == 401
        finally:
            process.kill()
            process.communicate(timeout=20)

    def test_the_address_is_resolved_once_at_the_start(self, home: Path, tmp_path: Path) -> None:
        configured = read_settings(home="link", port=0)
        (tmp_path / "link").unlink()
        (tmp_path / "link").mkdir()  # has no keys
        with TestClient(create_app(configured)) as client:
            assert client.get("/v1/decisions").status_code == 401

    def test_unreadable_keys_are_an_error_and_not_an_open_api(self, home: Path) -> None:
        (home / "keys.json").unlink()
        (home / "keys.json").symlink_to(home / "nothing")
        with pytest.raises(FileNotFoundError):
            create_app(read_settings(home=str(home), port=0))

    def test_an_unknown_user_in_the_address_is_reported(self) -> None:
        with pytest.raises(BadInput, match="write the whole path"):
            read_settings(home="~no-such-user/home")


class TestCommand:
    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(command, ["keys", *arguments], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def test_the_command_adds_lists_and_revokes_keys(self, tmp_path: Path) -> None:
        home = ("--home", str(tmp_path))
        token = self.run("add", "till", "--scope", "score", "--expires", "2099-01-01", *home).strip()
        keys = HomeKeys(open_home(tmp_path)).read()[0]
        assert find_key(keys, token, datetime.now(UTC)) == keys[0]
        (key,) = json.loads(self.run("list", "--json", *home))
        assert (key["name"], key["scopes"], key["expires"]) == ("till", ["score"], "2099-01-01T00:00:00+00:00")
        assert "sha256" not in key
        assert "till" in self.run("list", *home)
        self.run("revoke", "till", *home)
        assert json.loads(self.run("list", "--json", *home)) == []
        assert (tmp_path / "keys.json").exists()  # an API that had keys must not become open
        assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0

    def test_the_command_reports_invalid_input(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no key named 'till'"):
            self.run("revoke", "till", "--home", str(tmp_path))
        with pytest.raises(BadInput, match="--expires soon"):
            self.run("add", "till", "--scope", "score", "--expires", "soon", "--home", str(tmp_path))
        with pytest.raises(BadInput, match="--secret ARN"):
            self.run("list", "--home", "s3://bucket/home")

    @pytest.mark.parametrize("kind", ["home", pytest.param("secret", marks=pytest.mark.cloud)])
    def test_keys_added_concurrently_are_both_kept(
        self, kind: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        place: HomeKeys | SecretKeys = HomeKeys(open_home(tmp_path))
        if kind == "secret":
            request.getfixturevalue("aws")
            name = f"keys-{time.time_ns()}"
            place = SecretKeys(aws_client("secretsmanager").create_secret(Name=name, SecretString=NO_KEYS)["ARN"])

        def quicker(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            if not keys:  # another key is added after this writer has read
                edit_keys(place, lambda none: keys_with_new(none, "quicker", ["score"])[0])
            return keys_with_new(keys, "slower", ["admin"])[0]

        edit_keys(place, quicker)
        keys, tag = place.read()
        assert [key.name for key in keys] == ["quicker", "slower"]
        edit_keys(place, lambda keys: keys_without(keys, "quicker"))
        with pytest.raises(Conflict):
            place.write((), tag)
        assert [key.name for key in place.read()[0]] == ["slower"]
        if isinstance(place, SecretKeys):
            versions = aws_client("secretsmanager").list_secret_version_ids(SecretId=place.arn)["Versions"]
            labels = sorted(label for version in versions for label in version["VersionStages"])
            assert labels == ["AWSCURRENT", "AWSPREVIOUS"]

    def test_a_writer_that_always_loses_gets_an_error_and_overwrites_no_change(self, tmp_path: Path) -> None:
        place = HomeKeys(open_home(tmp_path))

        def too_late(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            edit_keys(place, lambda current: keys_with_new(current, f"other-{len(current)}", ["score"])[0])
            return keys_with_new(keys, "slow", ["score"])[0]

        with pytest.raises(Conflict, match="another writer"):
            edit_keys(place, too_late)
        assert {key.name for key in place.read()[0]} == {f"other-{i}" for i in range(10)}

    @pytest.mark.cloud
    @pytest.mark.usefixtures("aws")
    def test_the_command_edits_a_secret(self) -> None:
        service = aws_client("secretsmanager")
        name = f"keys-{time.time_ns()}"
        arn = service.create_secret(Name=name, SecretString=NO_KEYS)["ARN"]
        token = self.run("add", "till", "--scope", "score", "--secret", arn).strip()
        ring = KeyRing(service.get_secret_value(SecretId=arn)["SecretString"], None)
        assert ring.keys is not None
        assert find_key(ring.keys, token, datetime.now(UTC)) == ring.keys[0]
        self.run("revoke", "till", "--secret", arn)
        assert SecretKeys(arn).read()[0] == ()
