"""The function behind the Promote step."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from pipeline.registry import CorruptModel, Registry
from processing.errors import BadInput
from processing.home import open_home
from triggers.promote import handler


@pytest.fixture
def registry(tmp_path):
    return Registry(open_home(tmp_path))


def event(registry, passed=True, **gate):
    metrics = {"metrics": {}, "gate": {"passed": passed, "reason": "weak", **gate}}
    version = registry.publish({"model.joblib": b"m"}, {}, metrics, datetime(2026, 1, 1, tzinfo=UTC))
    return {"home": registry.home.url, "version": version, "manifest": registry.open(version).digest, "run": "r1"}


def test_it_promotes_for_the_run(registry):
    asked = event(registry)
    assert handler(asked, None) == {"promoted": asked["version"]}
    latest = registry.latest()
    assert (latest.version, latest.by) == (asked["version"], "pipeline run r1")


def test_a_retried_step_changes_nothing_and_succeeds(registry):
    asked = event(registry)
    assert handler(asked, None) == handler(asked, None)
    assert registry.latest().serial == 1


def test_it_never_promotes_what_the_gate_refused(registry):
    with pytest.raises(BadInput, match="did not pass the gate: weak"):
        handler(event(registry, passed=False), None)
    assert registry.latest() is None


def test_only_what_evaluation_told_is_promoted_whatever_a_version_says_of_its_gate(registry):
    evaluated = event(registry)
    forged = event(registry)["version"]  # by someone who may write models, with a gate that it passed
    with pytest.raises(CorruptModel, match="is not what was evaluated"):
        handler({**evaluated, "version": forged}, None)
    with pytest.raises(BadInput, match="does not tell which manifest was evaluated"):
        handler({"home": registry.home.url, "version": forged, "run": "r1"}, None)
    assert registry.latest() is None


def test_what_was_replaced_after_its_evaluation_is_not_promoted(registry):
    asked = event(registry)
    folder = f"models/{asked['version']}"
    manifest = json.loads(registry.home.read(f"{folder}/manifest.json"))
    manifest["files"]["model.joblib"] = hashlib.sha256(b"another").hexdigest()
    registry.home.write(f"{folder}/model.joblib", b"another")
    registry.home.write(f"{folder}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(CorruptModel, match="is not what was evaluated"):
        handler(asked, None)
    assert registry.latest() is None


def test_what_a_run_forced_serves_and_says_who_forced_it(registry):
    asked = event(registry, passed=False, forced_by="ann")
    assert handler(asked, None) == {"promoted": asked["version"]}
    latest = registry.latest()
    assert latest.forced
    assert latest.by == "ann, by pipeline run r1"
    assert latest.reason == "forced by ann against the gate"
