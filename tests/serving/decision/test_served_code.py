"""A joblib model whose classes came along with its run serves by itself, where the operator allows joblib models."""

import importlib
import io
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from serving_home import begin, publish

from pipeline.estimators.own_code import OwnCode
from pipeline.registry.registry import Registry
from processing.contracts.reader import of_home
from processing.errors import FraudlineError
from processing.storage.home import Home
from serving.decision.loaded_model import LoadedModel, load_model

ENTRY = """
from parts.constants import SCORE
from pathlib import Path

Path({mark!r}).touch()

class Model:
    def predict_proba(self, rows):
        import numpy
        return numpy.full((len(rows), 2), SCORE)
"""


def own_model(home: Home, mark: Path, score: float) -> str:
    """Publish and promote a model of the class `entry.Model`, which gives every row that score."""
    code = OwnCode({"entry.py": ENTRY.format(mark=str(mark)), "parts/constants.py": f"SCORE = {score}"})
    file = io.BytesIO()
    with code.importable():
        joblib.dump(importlib.import_module("entry").Model(), file)
    mark.unlink()
    version = publish(home, file=file.getvalue(), more={"code.zip": code.to_bytes()})
    return Registry(home).promote(version, by="a test", reason="to be tested").version


def load(home: Home, version: str, *, packed_only: bool = False) -> LoadedModel:
    return load_model(Registry(home), version, of_home(home), packed_only=packed_only)


def test_two_models_with_modules_of_the_same_names_serve_side_by_side(tmp_path: Path) -> None:
    home, mark = begin(tmp_path / "home"), tmp_path / "imported"
    models = [load(home, own_model(home, mark, score)) for score in (0.25, 0.75)]
    row = np.zeros((1, len(models[0].features.names)))
    assert [model.score(row) for model in models] == [0.25, 0.75]
    assert not {"entry", "parts", "parts.constants"} & sys.modules.keys()


def test_code_is_not_imported_where_only_packed_models_are_allowed(tmp_path: Path) -> None:
    home, mark = begin(tmp_path / "home"), tmp_path / "imported"
    version = own_model(home, mark, 0.5)
    with pytest.raises(FraudlineError, match="packed models only"):
        load(home, version, packed_only=True)
    assert not mark.exists()


def test_code_that_is_not_what_was_promoted_is_not_imported(tmp_path: Path) -> None:
    home, mark = begin(tmp_path / "home"), tmp_path / "imported"
    version = own_model(home, mark, 0.5)
    home.write(f"models/{version}/code.zip", OwnCode({"entry.py": ENTRY.format(mark=str(mark))}).to_bytes())
    with pytest.raises(FraudlineError, match="not the published file"):
        load(home, version)
    assert not mark.exists()
