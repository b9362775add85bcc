"""Following latest.json: models change under load without a failed request, and untrusted models are not loaded."""

import hashlib
import io
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
from serving_home import TestClient, begin, packed, promote, publish, row, running, serving_home, settings, trained
from serving_process import readiness
from structlog.testing import capture_logs

from pipeline.registry.registry import POINTER, CorruptModel, Latest, Published, Registry
from processing.contracts import reader as contracts
from processing.errors import NotFound
from processing.storage.home import Home
from serving.app import create_app
from serving.decision.follower import Follower
from serving.decision.loaded_model import CannotServe, load_model

CONTRACT = contracts.load("transactions")


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


class Caller:
    """A thread that sends one transaction after the other and keeps the responses."""

    def __init__(self, address: str) -> None:
        self.address, self.replies = address, list[httpx.Response]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        with httpx.Client(base_url=self.address, timeout=10) as client:
            while not self._stop.is_set():
                transaction = row(CONTRACT, transaction_id=f"call-{len(self.replies)}")
                self.replies.append(client.post("/v1/score", json=transaction))

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(20)

    @property
    def versions(self) -> list[str]:
        """The versions that answered, without consecutive repeats."""
        versions = [reply.json().get("model_version") for reply in self.replies]
        return [version for i, version in enumerate(versions) if i == 0 or versions[i - 1] != version]


def test_promotion_and_rollback_are_followed_without_a_failed_request(tmp_path: Path) -> None:
    home = begin(tmp_path)
    first = promote(home, publish(home, 0))
    second = publish(home, 1)
    with running(create_app(settings(tmp_path))) as address, Caller(address) as caller:
        wait_until(lambda: caller.versions == [first])
        promote(home, second)
        wait_until(lambda: caller.versions == [first, second])
        Registry(home).rollback(by="a test")
        wait_until(lambda: caller.versions == [first, second, first])
    assert {reply.status_code for reply in caller.replies} == {200}
    assert not any(reply.json()["repeated"] for reply in caller.replies)


def plant(home: Home, version: str, file: bytes, name: str = "model.joblib") -> None:
    """Replace a file and adapt the manifest, as anybody with write access to a version's keys can."""
    manifest = json.loads(home.read(f"models/{version}/manifest.json"))
    manifest["files"][name] = hashlib.sha256(file).hexdigest()
    home.write(f"models/{version}/{name}", file)
    home.write(f"models/{version}/manifest.json", json.dumps(manifest).encode())


def unpin(home: Home) -> None:
    """Write latest.json as versions without pins did."""
    pointer = json.loads(home.read(POINTER))
    home.write(POINTER, json.dumps({name: value for name, value in pointer.items() if name != "pins"}).encode())


def damage(home: Home, version: str) -> None:
    data = home.read(f"models/{version}/model.joblib")
    home.write(f"models/{version}/model.joblib", data[:-1] + bytes([data[-1] ^ 1]))


def test_a_damaged_model_is_refused_and_the_previous_one_keeps_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = serving_home(tmp_path)
    good = Registry(home).names()[0]
    bad, better = publish(home, 1), publish(home, 2)
    with capture_logs() as lines, running(create_app(settings(tmp_path))) as address, Caller(address) as caller:
        wait_until(lambda: caller.versions == [good])
        damage(home, bad)
        with monkeypatch.context() as whole:  # as if it was damaged between promotion and loading
            whole.setattr(Published, "verify", lambda _: None)
            promote(home, bad)
        wait_until(lambda: readiness(address)["trouble"] is not None)
        assert (readiness(address)["model_version"], bad in readiness(address)["trouble"]) == (good, True)
        assert "is not the published file" in httpx.get(f"{address}/v1/model").json()["trouble"]
        time.sleep(0.3)  # several more checks
        promote(home, better)
        wait_until(lambda: caller.versions == [good, better])
        assert readiness(address)["trouble"] is None
    assert {reply.status_code for reply in caller.replies} == {200}
    refusals = [line for line in lines if line["event"] == "model_refused"]
    assert [(line["log_level"], line["version"], line["serving"]) for line in refusals] == [("error", bad, good)]
    assert "sha256" in refusals[0]["why"]


class Trap:
    """Unpickling this creates the file `mark`."""

    marks: tuple[str, ...] = ()

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


class Constant:
    """A classifier that gives every row the same score."""

    def __init__(self, score: float) -> None:
        self.score = score

    def predict_proba(self, x: Any) -> Any:
        return np.tile([1 - self.score, self.score], (len(x), 1))


def dumped(model: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def pinning(home: Home, version: str) -> Latest:
    """latest.json as it would be if this version were promoted."""
    return Latest(version, (), "", "", "", 1, pins={version: Registry(home).open(version).digest})


class TestLoading:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return begin(tmp_path)

    def refusal(self, home: Home, version: str) -> str:
        with pytest.raises(CannotServe) as caught:
            load_model(Registry(home), version, CONTRACT, latest=pinning(home, version))
        assert version in str(caught.value)
        return str(caught.value)

    def test_any_classifier_can_serve(self, home: Home) -> None:
        version = promote(home, publish(home, file=dumped(Constant(0.25)), threshold=0.2))
        model = load_model(Registry(home), version, CONTRACT)
        assert (model.score(np.zeros((1, len(model.features.names)))), model.threshold) == (0.25, 0.2)

    def test_the_score_is_predict_proba(self, home: Home) -> None:
        model = load_model(Registry(home), promote(home, publish(home)), CONTRACT)
        rows = np.random.default_rng(1).lognormal(3.0, 1.0, (20, len(model.features.names)))
        rows[3, 4] = np.nan
        expected = joblib.load(io.BytesIO(trained("transactions", 0))).predict_proba(rows)[:, 1]
        assert [model.score(row.reshape(1, -1)) for row in rows] == expected.tolist()

    def test_a_model_of_another_contract_is_refused(self, home: Home) -> None:
        other = contracts.load("handbook")
        version = publish(home, contract={"name": other.name, "digest": other.digest, "text": other.text})
        assert "'handbook'" in self.refusal(home, version)

    def test_a_model_with_other_features_is_refused(self, home: Home) -> None:
        names = list(load_model(Registry(home), promote(home, publish(home)), CONTRACT).features.names)
        swapped = publish(home, features=[names[1], names[0], *names[2:]])
        assert "feature 'hour' for 'amount'" in self.refusal(home, swapped)
        assert f"{len(names) - 1} features for {len(names)}" in self.refusal(home, publish(home, features=names[:-1]))

    def test_a_model_of_another_scikit_learn_version_is_refused(self, home: Home) -> None:
        why = self.refusal(home, publish(home, libraries={"scikit-learn": "0.24.2"}))
        assert "made with scikit-learn 0.24.2" in why

    @pytest.mark.parametrize("entries", [{"contract": None}, {"libraries": {}}, {"threshold": "high"}, {"features": 3}])
    def test_an_unreadable_manifest_is_refused(self, home: Home, entries: dict[str, Any]) -> None:
        assert "manifest" in self.refusal(home, publish(home, **entries))

    def test_a_model_that_does_not_fit_is_not_unpickled(self, home: Home, tmp_path: Path) -> None:
        mark = tmp_path / "unpickled"
        version = publish(home, file=pickle.dumps(Trap(mark)), libraries={"scikit-learn": "0.24.2"})
        self.refusal(home, version)
        assert not mark.exists()

    def test_an_unpinned_model_is_not_unpickled(self, home: Home, tmp_path: Path) -> None:
        mark = tmp_path / "unpickled"
        candidate = publish(home, file=pickle.dumps(Trap(mark)))
        with pytest.raises(CannotServe, match=r"runs as code, and latest\.json does not pin it"):
            load_model(Registry(home), candidate, CONTRACT)
        promote(home, candidate)
        unpin(home)
        with pytest.raises(CannotServe, match=f"`fraudline models promote {candidate}` to pin it"):
            load_model(Registry(home), candidate, CONTRACT)
        assert not mark.exists()

    def test_no_model_is_unpickled_where_only_packed_models_are_allowed(self, home: Home, tmp_path: Path) -> None:
        mark = tmp_path / "unpickled"
        version = promote(home, publish(home, file=pickle.dumps(Trap(mark))))
        with pytest.raises(CannotServe, match="FRAUDLINE_MODELS=any"):
            load_model(Registry(home), version, CONTRACT, packed_only=True)
        assert not mark.exists()
        with pytest.raises(CannotServe, match="cannot score"):  # it is unpickled where that is allowed
            load_model(Registry(home), version, CONTRACT)
        assert mark.exists()

    @pytest.mark.parametrize(
        ("file", "says"),
        [
            (b"", "cannot be loaded"),
            (b"no pickle", "cannot be loaded"),
            (pickle.dumps({"a": 1}), "cannot score"),
            (dumped(Constant(7.0)), "expected a probability"),
            (dumped(Constant(float("nan"))), "expected a probability"),
        ],
    )
    def test_a_file_that_cannot_score_is_refused(self, home: Home, file: bytes, says: str) -> None:
        assert says in self.refusal(home, publish(home, file=file))

    def test_an_unknown_version_is_not_found(self, home: Home) -> None:
        with pytest.raises(NotFound):
            load_model(Registry(home), "20200101T000000Z-00000", CONTRACT)


class TestFollower:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return begin(tmp_path)

    @pytest.fixture
    def lines(self) -> Iterator[list[Any]]:
        with capture_logs() as lines:
            yield lines

    def test_a_refused_model_is_retried_after_a_while(self, home: Home, lines: list[Any]) -> None:
        version = publish(home)
        promote(home, version)
        whole = home.read(f"models/{version}/model.joblib")
        damage(home, version)
        follower = Follower(Registry(home), CONTRACT, retry_seconds=0.3)
        for _ in range(3):
            follower.check()
        home.write(f"models/{version}/model.joblib", whole)
        follower.check()
        assert follower.serving is None
        assert [line["event"] for line in lines] == ["model_refused"]
        time.sleep(0.35)
        follower.check()
        assert follower.current().model.version == version
        assert follower.trouble is None

    @pytest.mark.parametrize("pointer", [b"", b"{}", b"[]", b'{"version": "x"', b'{"version": "x", "previous": 3}'])
    def test_an_unreadable_pointer_changes_nothing(self, home: Home, lines: list[Any], pointer: bytes) -> None:
        version = promote(home, publish(home))
        follower = Follower(Registry(home), CONTRACT)
        follower.check()
        home.write(POINTER, pointer)
        follower.check()
        follower.check()
        assert follower.current().model.version == version
        assert follower.trouble is not None
        assert [line["event"] for line in lines] == ["model_serves", "latest_unreadable"]

    @pytest.mark.parametrize("packs", [False, True])
    def test_a_model_planted_after_promotion_is_refused_by_new_and_running_servers(
        self, home: Home, lines: list[Any], tmp_path: Path, packs: bool
    ) -> None:
        mark, more = tmp_path / "unpickled", {"scorer.npz": packed("transactions")}
        version = promote(home, publish(home, more=more if packs else {}))
        following = Follower(Registry(home), CONTRACT)
        following.check()
        other = promote(home, publish(home, 1))
        following.check()
        name, file = ("scorer.npz", packed("transactions", 1)) if packs else ("model.joblib", pickle.dumps(Trap(mark)))
        plant(home, version, file, name)
        with pytest.raises(CorruptModel, match="not the manifest that was promoted"):
            Registry(home).rollback(by="a test")
        with pytest.raises(CorruptModel, match="not the manifest that was promoted"):
            promote(home, version)
        assert following.current().model.version == other
        plant(home, other, pickle.dumps(Trap(mark)))
        starting = Follower(Registry(home), CONTRACT)
        starting.check()
        following.check()
        assert starting.serving is None
        assert starting.refused
        assert "not the manifest that was promoted" in str(starting.trouble)
        assert following.current().model.version == other
        assert not mark.exists()

    def test_an_unpinned_packed_model_is_loaded_with_a_warning(self, home: Home, lines: list[Any]) -> None:
        version = promote(home, publish(home, more={"scorer.npz": packed("transactions")}))
        unpin(home)
        follower = Follower(Registry(home), CONTRACT)
        follower.check()
        assert follower.current().model.version == version
        assert [line["event"] for line in lines] == ["model_serves", "model_not_pinned"]
        promote(home, version)
        follower.check()
        latest = Registry(home).latest()
        assert latest is not None
        assert (latest.pin, follower.trouble) == (Registry(home).open(version).digest, None)

    def test_a_version_pinned_again_with_different_content_is_loaded_again(self, home: Home) -> None:
        version = promote(home, publish(home, more={"scorer.npz": packed("transactions")}))
        unpin(home)
        follower = Follower(Registry(home), CONTRACT)
        follower.check()
        plant(home, version, packed("transactions", 1), "scorer.npz")
        promote(home, version)
        follower.check()
        assert follower.current().model.digest == Registry(home).open(version).digest

    def test_rolling_back_to_the_serving_model_loads_nothing(self, home: Home, lines: list[Any]) -> None:
        version = promote(home, publish(home))
        follower = Follower(Registry(home), CONTRACT)
        follower.check()
        before = follower.current()
        promote(home, publish(home, file=dumped(Constant(7.0))))
        follower.check()
        refused = follower.trouble
        Registry(home).rollback(by="a test")
        follower.check()
        now = follower.current()
        assert refused is not None
        assert (now.model, now.since) == (before.model, before.since)
        assert follower.trouble is None
        assert now.model.version == version
        assert now.promoted_at != before.promoted_at

    def test_no_error_stops_the_follower(
        self, tmp_path: Path, home: Home, lines: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even an unexpected one."""
        version = publish(home)
        with TestClient(create_app(settings(tmp_path))) as client:
            with monkeypatch.context() as broken:
                broken.setattr(Registry, "latest", lambda _: 1 / 0)
                wait_until(lambda: any(line["event"] == "follow_failed" for line in lines))
            promote(home, version)
            wait_until(lambda: client.get("/health/ready").status_code == 200)
