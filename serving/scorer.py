"""A registered model, checked and loaded, ready to score one row at a time.

A version with packed trees is served from those: no pickle is read, scikit-learn is not imported, and a row takes
microseconds. Any other is served from its model.joblib.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.packed import SCORER_FILE, PackedScorer, UnusableScorer
from pipeline.registry import MODEL_FILE, Registry
from processing.contract import Contract
from processing.errors import FraudlineError
from processing.features import FeatureSet

Floats = NDArray[np.float64]


class CannotServe(FraudlineError):
    """A registered model does not fit this server: its contract, features, libraries, or the file itself."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that serves. `predict` takes [1, m] features in the order of `features.names`."""

    version: str
    threshold: float
    contract: Contract
    features: FeatureSet
    predict: Callable[[Floats], float]
    manifest: dict[str, Any]

    def score(self, row: Floats) -> float:
        """The probability of fraud for one row of features, [1, m] float64."""
        return self.predict(row)


def load_model(registry: Registry, version: str, contract: Contract) -> LoadedModel:
    """The registered model of that version, for transactions of a contract.

    Nothing is read of a model before the manifest fits and the file has the digest that the manifest states. Raises
    CannotServe saying what does not fit, and NotFound or CorruptModel as the registry does.
    """
    manifest = registry.manifest(version)
    features = FeatureSet(contract)
    try:
        _check(version, manifest, features)
        threshold = float(manifest["threshold"])
        packed = SCORER_FILE in manifest["files"]
        if not packed:
            _check_library(version, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise CannotServe(f"model {version}: its manifest lacks or garbles {error}") from error
    predict = _packed(registry, version) if packed else _pickled(registry, version)
    model = LoadedModel(version, threshold, contract, features, predict, manifest)
    _try_out(model)
    return model


def _check(version: str, manifest: dict[str, Any], features: FeatureSet) -> None:
    contract = features.contract
    if manifest["contract"]["digest"] != contract.digest:
        raise CannotServe(
            f"model {version} was trained for the contract {manifest['contract']['name']!r} with digest "
            f"{manifest['contract']['digest'][:12]}, the home's contract.toml ({contract.name!r}) has "
            f"{contract.digest[:12]}; train a model in this home"
        )
    trained, expected = list(manifest["features"]), list(features.names)
    if trained != expected:
        differ = [f"{a!r} for {b!r}" for a, b in zip(trained, expected, strict=False) if a != b]
        what = f"feature {differ[0]}" if differ else f"{len(trained)} features for {len(expected)}"
        raise CannotServe(
            f"model {version} was trained on other features than this code computes: {what}; train it again"
        )


def _check_library(version: str, manifest: dict[str, Any]) -> None:
    """A pickle can be read by the scikit-learn that wrote it alone."""
    made_with, ours = manifest["libraries"]["scikit-learn"], installed("scikit-learn")
    if made_with != ours:
        raise CannotServe(
            f"model {version} was made with scikit-learn {made_with}, this server has {ours}: install "
            f"scikit-learn=={made_with} or train it again"
        )


def _packed(registry: Registry, version: str) -> Callable[[Floats], float]:
    try:
        return PackedScorer.from_bytes(registry.read_file(version, SCORER_FILE)).score
    except UnusableScorer as error:
        raise CannotServe(f"model {version}: {error}; train it again, or roll back to another version") from error


def _pickled(registry: Registry, version: str) -> Callable[[Floats], float]:
    data = registry.read_file(version, MODEL_FILE)
    import joblib  # brings scikit-learn: a second that only loading should take

    try:
        classifier = joblib.load(io.BytesIO(data))
    except Exception as error:  # what unpickling raises depends on what was pickled
        raise CannotServe(f"model {version}: {MODEL_FILE} cannot be loaded: {error!r}") from error
    return lambda row: float(classifier.predict_proba(row)[0, 1])


def _try_out(model: LoadedModel) -> None:
    """Score one row before any customer waits for it: it must work, and the first time is the slowest."""
    row = np.zeros((1, len(model.features.names)))
    try:
        score = model.score(row)
    except Exception as error:  # a registered model may be any classifier
        raise CannotServe(f"model {model.version} cannot score a row of {row.shape[1]} features: {error!r}") from error
    if not 0.0 <= score <= 1.0:
        raise CannotServe(f"model {model.version} gives the score {score}, expected a probability")
