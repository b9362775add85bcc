"""A run that brings code along: training imports it, and later steps only for a joblib model, where that is allowed."""

import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_sets import CONTRACT, FIRST_DAY, rows_table, write_code, write_contract, write_set

from pipeline.data import dataset
from pipeline.estimators.joblib_file import read_joblib
from pipeline.estimators.own_code import OwnCode
from pipeline.estimators.predict import scores
from pipeline.evaluation import evaluation
from pipeline.registry.registry import Registry
from pipeline.scorer.forest import PackedScorer
from pipeline.steps import evaluate, train
from processing.storage.open import open_home

ENTRY = """
from pathlib import Path
from parts.models import Model

Path({mark!r}).touch()

def make(hyperparameters):
    return Model(hyperparameters.max_iterations, random_state=0)
"""
FOREST = """
from sklearn.ensemble import ExtraTreesClassifier

class Model(ExtraTreesClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X) * {factor} + [1 - {factor}, 0]
"""
BOOSTING = """
from sklearn.ensemble import HistGradientBoostingClassifier

def Model(iterations, random_state):
    return HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False)
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that importing the code creates."""
    return tmp_path / "imported"


@pytest.fixture
def run(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Train and evaluate with these models; returns evaluation.json. The file `mark` is gone between the steps."""
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    monkeypatch.setattr(evaluation, "model_report", lambda version, *_: b"drawing takes seconds")
    folder = tmp_path / "ml"
    write_set(folder / "input/data/train", rows_table())
    write_set(folder / "processing/test", rows_table(days=4, first_day=FIRST_DAY + 22, per_day=200, seed=1))
    write_contract(folder / "input/data/contract")
    write_contract(folder / "processing/contract")
    (folder / "input/config").mkdir(parents=True)
    settings = {"max_iterations": "20", "estimator": "entry:make"}
    (folder / "input/config/hyperparameters.json").write_text(json.dumps(settings))
    (folder / "processing/model").mkdir()

    def steps(models: str) -> dict[str, Any]:
        code = code_of(models, mark)
        write_code(folder / "input/data/code", code)
        write_code(folder / "processing/code", code)
        (folder / "model/scorer.npz").unlink(missing_ok=True)
        train.main()
        assert mark.exists()
        mark.unlink()
        with tarfile.open(folder / "processing/model/model.tar.gz", "w:gz") as archive:
            for path in (folder / "model").iterdir():
                archive.add(path, path.name)
        evaluate.main(["--home", str(tmp_path / "home"), "--run", "r1", "--floor", "0.1"])
        outcome: dict[str, Any] = json.loads((folder / "processing/evaluation/evaluation.json").read_text())
        return outcome

    return steps


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(open_home(tmp_path / "home"))


def code_of(models: str, mark: Path) -> OwnCode:
    return OwnCode({"entry.py": ENTRY.format(mark=str(mark)), "parts/models.py": models})


@pytest.mark.slow
def test_a_model_that_can_be_packed_is_measured_without_its_code(
    run: Callable[[str], dict[str, Any]], registry: Registry, mark: Path
) -> None:
    version = run(BOOSTING)["version"]
    assert not mark.exists()
    published = registry.open(version)
    assert published.manifest["scorer"] == "packed"
    assert published.manifest["code"] == code_of(BOOSTING, mark).digest
    assert published.own_code() == code_of(BOOSTING, mark).to_bytes()
    registry.promote(version, "a test", "first")
    assert run(BOOSTING)["champion"]["version"] == version
    assert not mark.exists()


@pytest.mark.slow
def test_a_joblib_model_is_measured_with_the_code_that_it_came_with(
    run: Callable[[str], dict[str, Any]], registry: Registry, tmp_path: Path
) -> None:
    first = run(FOREST.format(factor=0.5))
    registry.promote(first["version"], "a test", "first")
    second = run(FOREST.format(factor=1.0))  # modules of the same names
    assert second["champion"]["version"] == first["version"]
    assert second["champion"]["average_precision"] == first["metrics"]["average_precision"]
    rows = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    halved, whole = (
        scores(read_joblib(published.read("model.joblib"), published.own_code()), rows.X)
        for published in (registry.open(outcome["version"]) for outcome in (first, second))
    )
    assert (halved == whole / 2).all()
    assert not {"entry", "parts", "parts.models"} & sys.modules.keys()
    reasons = next(check for check in second["checks"] if "reasons" in check["says"])["says"]
    assert "parts" not in reasons  # a server needs no module: it comes with the model


@pytest.mark.slow
def test_where_only_packed_models_are_allowed_no_code_is_imported(
    run: Callable[[str], dict[str, Any]], mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDLINE_MODELS", "packed")
    with pytest.raises(SystemExit):
        run(FOREST.format(factor=1.0))
    assert "only packed models may be loaded here" in (tmp_path / "ml/output/failure").read_text()
    assert not mark.exists()


@pytest.mark.slow
def test_the_packed_model_scores_as_the_model_itself(
    run: Callable[[str], dict[str, Any]], registry: Registry, tmp_path: Path
) -> None:
    published = registry.open(run(BOOSTING)["version"])
    rows = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    model = read_joblib(published.read("model.joblib"), published.own_code())
    assert (PackedScorer.from_bytes(published.read("scorer.npz")).scores(rows.X) == scores(model, rows.X)).all()
