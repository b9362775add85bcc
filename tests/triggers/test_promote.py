"""The function behind the Promote step."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from pipeline.registry.registry import CorruptModel, Registry
from processing.errors import BadInput
from processing.storage.open import open_home
from triggers.functions.promote import handler

CONTRACT = b"any = 'text'"
MANIFEST = {"contract": {"digest": hashlib.sha256(CONTRACT).hexdigest()}, "features": ["amount"], "threshold": 0.5}


@pytest.fixture
def registry(tmp_path):
    registry = Registry(open_home(tmp_path))
    registry.home.write("contract.toml", CONTRACT)
    return registry


def event(registry, passed=True, manifest=MANIFEST, files=None, **gate):
    metrics = {"metrics": {}, "gate": {"passed": passed, "reason": "weak", **gate}}
    files = files or {"model.joblib": b"m"}
    version = registry.publish(files, manifest, metrics, datetime(2026, 1, 1, tzinfo=UTC))
    return {"home": registry.home.url, "version": version, "manifest": registry.open(version).digest, "run": "r1"}


def test_the_function_promotes_on_behalf_of_the_run(registry):
    step_event = event(registry)
    assert handler(step_event, None) == {"promoted": step_event["version"]}
    latest = registry.latest()
    assert (latest.version, latest.by) == (step_event["version"], "pipeline run r1")


def test_a_retried_step_succeeds_and_changes_nothing(registry):
    step_event = event(registry)
    assert handler(step_event, None) == handler(step_event, None)
    assert registry.latest().serial == 1


def test_a_model_rejected_by_the_gate_is_not_promoted(registry):
    with pytest.raises(BadInput, match="did not pass the gate: weak"):
        handler(event(registry, passed=False), None)
    assert registry.latest() is None


def test_only_the_evaluated_version_is_promoted_even_if_another_claims_to_have_passed(registry):
    evaluated = event(registry)
    forged = event(registry)["version"]  # written by someone with access to models, claiming that it passed
    with pytest.raises(CorruptModel, match="is not what was evaluated"):
        handler({**evaluated, "version": forged}, None)
    with pytest.raises(BadInput, match="does not record which manifest was evaluated"):
        handler({"home": registry.home.url, "version": forged, "run": "r1"}, None)
    assert registry.latest() is None


def test_a_version_that_was_replaced_after_its_evaluation_is_not_promoted(registry):
    step_event = event(registry)
    folder = f"models/{step_event['version']}"
    manifest = json.loads(registry.home.read(f"{folder}/manifest.json"))
    manifest["files"]["model.joblib"] = hashlib.sha256(b"another").hexdigest()
    registry.home.write(f"{folder}/model.joblib", b"another")
    registry.home.write(f"{folder}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(CorruptModel, match="is not what was evaluated"):
        handler(step_event, None)
    assert registry.latest() is None


def test_a_forced_model_is_promoted_and_records_who_forced_it(registry):
    step_event = event(registry, passed=False, forced_by="ann")
    assert handler(step_event, None) == {"promoted": step_event["version"]}
    latest = registry.latest()
    assert latest.forced
    assert latest.by == "ann, by pipeline run r1"
    assert latest.reason == "forced by ann against the gate"


def test_a_model_that_waits_for_approval_is_not_promoted_by_its_run(registry):
    with pytest.raises(BadInput, match="waits for a person's approval"):
        handler(event(registry, passed=False, verdict="waiting"), None)
    assert registry.latest() is None


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({**MANIFEST, "contract": {"digest": "0" * 64}}, "was trained under another contract"),
        ({}, "was trained under another contract"),
        ({**MANIFEST, "threshold": None}, "lacks its features or its threshold"),
    ],
)
def test_a_model_whose_manifest_the_api_would_refuse_is_not_promoted(registry, manifest, message):
    with pytest.raises(BadInput, match=message):
        handler(event(registry, manifest=manifest), None)
    assert registry.latest() is None


def test_a_joblib_model_is_not_promoted_where_the_api_loads_packed_models_only(registry, monkeypatch):
    monkeypatch.setenv("FRAUDLINE_MODELS", "packed")
    with pytest.raises(BadInput, match="has no packed scorer"):
        handler(event(registry), None)
    assert registry.latest() is None
    packed = event(registry, files={"model.joblib": b"m", "scorer.npz": b"s"})
    assert handler(packed, None) == {"promoted": packed["version"]}
    monkeypatch.setenv("FRAUDLINE_MODELS", "pakced")
    with pytest.raises(BadInput, match="FRAUDLINE_MODELS is 'pakced'"):
        handler(packed, None)
