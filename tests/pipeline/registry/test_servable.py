"""A version that cannot serve is not promoted: promotion and rollback load it as the home's API would."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_home import TestClient, begin, packed, promote, publish, row
from serving_home import settings as server_settings
from typer.testing import CliRunner

from pipeline.command.models import app
from pipeline.registry.registry import POINTER, Registry
from pipeline.registry.requirements import LOCAL_MODULES, REQUIREMENTS, requirements_of, unmet_requirement
from pipeline.registry.servable import WouldNotServe
from processing.contracts import reader as contracts
from processing.storage.home import Home
from serving.app import create_app

CONTRACT = contracts.load("transactions")
OTHER = contracts.load("handbook")
MODULE = """
import numpy as np

class Model:
    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)
"""


@dataclass(frozen=True)
class Kind:
    """A kind of version: how to publish it, and part of the reason why this home's API refuses it, or empty."""

    publish: Callable[[Home], str]
    refused: str


def joblib_of(home: Home, **manifest: Any) -> str:
    return publish(home, **manifest)


def packed_of(home: Home, **manifest: Any) -> str:
    return publish(home, more={"scorer.npz": packed("transactions")}, **manifest)


OF_OTHER = {"name": OTHER.name, "digest": OTHER.digest, "text": OTHER.text}
KINDS = {
    "packed": Kind(packed_of, ""),
    "joblib": Kind(joblib_of, ""),
    "of another contract": Kind(lambda home: packed_of(home, contract=OF_OTHER), "'handbook'"),
    "of other features": Kind(lambda home: packed_of(home, features=["amount"]), "features"),
    "of another scikit-learn": Kind(
        lambda home: joblib_of(home, libraries={"scikit-learn": "0.1"}), "scikit-learn 0.1"
    ),
    "no model": Kind(lambda home: publish(home, file=b"no pickle"), "cannot be loaded"),
    "a damaged scorer": Kind(lambda home: publish(home, more={"scorer.npz": b"none"}), "scorer.npz"),
    "with a missing library": Kind(
        lambda home: joblib_of(home, **{REQUIREMENTS: {"lightgbm": "4.5.0"}}), "lightgbm==4.5.0"
    ),
    "without a threshold": Kind(lambda home: packed_of(home, threshold=None), "manifest"),
}


def command(home: Home, *words: str) -> Any:
    return CliRunner().invoke(app, [*words, "--home", str(home.folder)])


def serves(home: Home) -> bool:
    """Whether a server that starts now serves the promoted model."""
    latest = Registry(home).latest()
    with TestClient(create_app(server_settings(home.folder))) as client:
        ready = client.get("/health/ready")
        scored = client.post("/v1/score", json=row(CONTRACT))
    return (
        latest is not None
        and (ready.status_code, scored.status_code) == (200, 200)
        and scored.json()["model_version"] == latest.version
    )


def assert_serves_if_it_can(home: Home, kind: Kind, version: str, *words: str) -> None:
    """The command promotes a version, or refuses it with a reason; a new API can serve either way."""
    before = home.read(POINTER)
    result = command(home, *words)
    if kind.refused:
        assert isinstance(result.exception, WouldNotServe)
        assert kind.refused in str(result.exception)
        assert home.read(POINTER) == before
    else:
        assert result.exit_code == 0, result.exception
        assert f"{version} is now serving" in result.output
    assert serves(home)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_command_promotes_only_what_the_homes_api_can_serve(tmp_path: Path, kind: str) -> None:
    home = begin(tmp_path)
    promote(home, packed_of(home))
    version = KINDS[kind].publish(home)
    assert_serves_if_it_can(home, KINDS[kind], version, "promote", version)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joblib", "of another contract", "with a missing library"])
def test_the_command_rolls_back_only_to_what_can_serve(tmp_path: Path, kind: str) -> None:
    home = begin(tmp_path)
    version = promote(home, KINDS[kind].publish(home))  # bypassing the check, as an earlier version would
    promote(home, packed_of(home))
    assert_serves_if_it_can(home, KINDS[kind], version, "rollback")


def test_a_joblib_model_cannot_be_promoted_where_only_packed_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = begin(tmp_path)
    monkeypatch.setenv("FRAUDLINE_MODELS", "packed")
    result = command(home, "promote", joblib_of(home))
    assert "loads packed models only" in str(result.exception)
    assert Registry(home).latest() is None
    assert command(home, "promote", packed_of(home)).exit_code == 0
    assert serves(home)


def test_the_approver_of_a_model_sees_why_it_could_not_be_compared(tmp_path: Path) -> None:
    home = begin(tmp_path)
    version = packed_of(home)
    waiting(home, version)
    listing = command(home, "list")
    assert "waits for approval" in " ".join(listing.output.split())
    assert "other columns" in " ".join(listing.output.split())
    result = command(home, "promote", version, "--reason", "compared by hand")
    assert result.exit_code == 0, result.exception
    assert "could not be compared with the champion: other columns" in result.output
    latest = Registry(home).latest()
    assert latest is not None
    assert (latest.reason, latest.forced) == ("compared by hand", False)


def waiting(home: Home, version: str) -> None:
    """Change the gate's verdict on a published version to waiting."""
    gate = {
        "passed": False,
        "verdict": "waiting",
        "reason": "It could not be compared with the champion: other columns",
    }
    metrics = json.dumps({"gate": gate, "metrics": {}}).encode()
    manifest = json.loads(home.read(f"models/{version}/manifest.json"))
    manifest["files"]["metrics.json"] = hashlib.sha256(metrics).hexdigest()
    home.write(f"models/{version}/metrics.json", metrics)
    home.write(f"models/{version}/manifest.json", json.dumps(manifest).encode())


HTMX = {"HX-Request": "true", "Origin": "http://127.0.0.1"}


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(list(KINDS)), st.booleans()), min_size=1, max_size=5))
def test_a_server_can_start_after_any_clicks_in_the_console(
    tmp_path_factory: pytest.TempPathFactory, clicks: list[tuple[str, bool]]
) -> None:
    home = begin(tmp_path_factory.mktemp("clicked"))
    promote(home, packed_of(home))
    with TestClient(create_app(server_settings(home.folder))) as client:
        for kind, back in clicks:
            version, before = KINDS[kind].publish(home), home.read(POINTER)
            form = {"version": version, "reason": "a try"}
            response = client.post("/console/promote", data=form, headers=HTMX)
            assert response.status_code == (409 if KINDS[kind].refused else 200)
            if KINDS[kind].refused:
                assert "Nothing was changed" in response.text
                assert home.read(POINTER) == before
            elif back:
                assert client.post("/console/rollback", data={"serving": version}, headers=HTMX).status_code == 200
    assert serves(home)


# What a model file requires


@pytest.fixture
def boosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with an installed distribution, `made-up-boosting` 4.5.0, whose module is `madeup`."""
    folder = tmp_path / "site"
    info = folder / "made_up_boosting-4.5.0.dist-info"
    info.mkdir(parents=True)
    (folder / "madeup").mkdir()
    (folder / "madeup/__init__.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-boosting\nVersion: 4.5.0\n")
    (info / "RECORD").write_text("madeup/__init__.py,,\n")
    (info / "top_level.txt").write_text("madeup\n")
    (folder / "notinstalled.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("madeup", "notinstalled"):
        sys.modules.pop(name, None)


def test_the_distributions_a_model_requires_are_derived_from_its_modules(boosted: Path) -> None:
    import madeup
    import notinstalled
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    model = Pipeline([("function", FunctionTransformer(np.abs)), ("model", madeup.Model())])
    required = requirements_of(model)
    assert required[REQUIREMENTS]["made-up-boosting"] == "4.5.0"
    assert set(required[REQUIREMENTS]) == {"made-up-boosting", "scikit-learn"}
    assert required[LOCAL_MODULES] == []
    assert requirements_of(notinstalled.Model()) == {REQUIREMENTS: {}, LOCAL_MODULES: ["notinstalled"]}


def test_a_missing_or_different_distribution_is_an_unmet_requirement(boosted: Path) -> None:
    info = boosted / "made_up_boosting-4.5.0.dist-info/METADATA"
    needs = {REQUIREMENTS: {"made-up-boosting": "4.5.0"}}
    assert unmet_requirement(needs) == ""
    info.write_text(info.read_text().replace("4.5.0", "4.6.0"))
    assert (
        "made with made-up-boosting 4.5.0, this server has 4.6.0: install made-up-boosting==4.5.0"
        in unmet_requirement(needs)
    )
    info.unlink()
    info.parent.joinpath("RECORD").unlink()
    info.parent.joinpath("top_level.txt").unlink()
    info.parent.rmdir()
    assert "this server does not have it: install made-up-boosting==4.5.0" in unmet_requirement(needs)
    assert "made with scikit-learn 0.1" in unmet_requirement({"libraries": {"scikit-learn": "0.1"}})  # an old manifest


@pytest.mark.slow
def test_a_model_can_be_promoted_only_where_its_library_is_installed(
    boosted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import madeup
    import notinstalled

    home, files = begin(tmp_path / "home"), []
    for model in (madeup.Model(), notinstalled.Model()):
        file = io.BytesIO()
        joblib.dump(model, file)
        files.append(file.getvalue())
    version = publish(home, file=files[0], **requirements_of(madeup.Model()))
    old = publish(home, file=files[0])  # without these entries, as published by earlier versions
    own = publish(home, file=files[1], **requirements_of(notinstalled.Model()))
    result = command(home, "promote", version)
    assert "made with made-up-boosting 4.5.0, this server does not have it" in str(result.exception)
    for name, module in ((old, "madeup"), (own, "notinstalled")):
        assert f"needs the module '{module}', which this server does not have" in str(
            command(home, "promote", name).exception
        )
    assert Registry(home).latest() is None
    monkeypatch.setenv("PYTHONPATH", str(boosted))
    assert command(home, "promote", version).exit_code == 0
    assert serves(home)


def test_a_server_that_starts_without_the_library_names_it(tmp_path: Path) -> None:
    home = begin(tmp_path)
    promote(home, joblib_of(home, **{REQUIREMENTS: {"made-up-boosting": "4.5.0"}}))
    with TestClient(create_app(server_settings(home.folder))) as client:
        reply = client.get("/health/ready").text
    assert "install made-up-boosting==4.5.0" in reply


def test_reading_a_models_requirements_imports_no_libraries() -> None:
    code = "import sys, pipeline.registry.servable, pipeline.registry.requirements"
    code += "; print([n for n in ('numpy', 'sklearn') if n in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"
