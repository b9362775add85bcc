"""Models and parameters that use the module names of earlier versions of Fraudline still work."""

import io
import sys
from types import ModuleType

import joblib
import numpy as np
import pytest

from pipeline.estimators import binner, joblib_file, trees
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.joblib_file import read_joblib
from pipeline.estimators.legacy_names import LEGACY_MODULES

ROWS = np.random.default_rng(0).normal(size=(200, 3))


@pytest.fixture
def earlier_file(monkeypatch):
    """Dump a model as an earlier version did, with its classes in `pipeline.binner` and `pipeline.model`."""

    def dump(model, **options):
        with monkeypatch.context() as patch:
            for name, module in (("pipeline.binner", binner), ("pipeline.model", trees)):
                patch.setitem(sys.modules, name, module)
            patch.setattr(binner.TailBinner, "__module__", "pipeline.binner")
            file = io.BytesIO()
            joblib.dump(model, file, **options)
        return file.getvalue()

    return dump


@pytest.mark.parametrize("compress", [0, 3])
def test_a_model_of_an_earlier_version_still_loads_and_scores_the_same(earlier_file, compress):
    model = build_estimator(Hyperparameters(max_iterations=5)).fit(ROWS, ROWS[:, 0] > 0)
    data = earlier_file(model, compress=compress)
    if not compress:
        assert b"pipeline.binner" in data
        assert b"pipeline.estimators" not in data
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.binner"):
        joblib.load(io.BytesIO(data))
    loaded = read_joblib(data)
    assert type(loaded[0]) is binner.TailBinner
    assert np.array_equal(loaded.predict_proba(ROWS), model.predict_proba(ROWS))


def test_a_model_of_this_version_loads():
    file = io.BytesIO()
    joblib.dump(binner.TailBinner().fit(ROWS), file)
    assert np.array_equal(read_joblib(file.getvalue()).transform(ROWS), binner.TailBinner().fit_transform(ROWS))


def test_an_unknown_module_is_still_an_error(monkeypatch):
    module = ModuleType("gone")
    module.Thing = type("Thing", (), {"__module__": "gone"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gone", module)
        file = io.BytesIO()
        joblib.dump(module.Thing(), file)
    with pytest.raises(ModuleNotFoundError, match="gone"):
        joblib_file.read_joblib(file.getvalue())


def test_the_estimator_parameter_of_an_earlier_run_is_accepted():
    recorded = Hyperparameters.from_strings({"estimator": "pipeline.model:trees", "max_iterations": "7"})
    assert [type(step) for _, step in build_estimator(recorded).steps] == [
        type(step) for _, step in build_estimator(Hyperparameters()).steps
    ]


def test_earlier_module_names_do_not_exist():
    for name in LEGACY_MODULES:
        with pytest.raises(ModuleNotFoundError):
            __import__(name)
