"""A registered model, checked and loaded, ready to score one row at a time.

A version with packed trees is served from those: no pickle is read, scikit-learn is not imported, and a row takes
microseconds. Any other is served from its model.joblib. That is code, so it is only read if it is the file of the
version as it was promoted, and if the operator allows it.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.registry.needs import lacking
from pipeline.registry.registry import MODEL_FILE, Latest, Published, Registry
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import COVER, SCORER_FILE, PackedScorer, UnusableScorer, load
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts.reader import parse
from processing.errors import FraudlineError
from processing.features.feature_set import FeatureSet
from serving.decision.reasons import Reason, Reasons

Score = Callable[[Floats], Floats]


class CannotServe(FraudlineError):
    """A registered model does not fit this server: its contract, features, libraries, or the file itself."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that serves.

    `predict` takes [n, m] features in the order of `features.names` to [n] scores, `explain` to their [n, m]
    contributions (see `pipeline.scorer.contributions`); a model that is not packed has none. `digest`: the SHA-256 of
    the manifest it was loaded by.
    """

    version: str
    threshold: float
    contract: Contract
    features: FeatureSet
    predict: Score
    manifest: dict[str, Any]
    explain: Score | None = None
    digest: str = ""
    reasons: Reasons = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", Reasons(self.contract, self.features.names))

    def score(self, row: Floats) -> float:
        """The probability of fraud for one row of features, [1, m] float64."""
        return float(self.predict(row)[0])

    def reasons_for(self, rows: Floats) -> list[tuple[Reason, ...]] | None:
        """What speaks for fraud in each row of features, [n, m]; None for a model that cannot say."""
        if self.explain is None:
            return None
        return [self.reasons.of(*pair) for pair in zip(rows.tolist(), self.explain(rows).tolist(), strict=True)]


def load_model(
    registry: Registry,
    version: str,
    contract: Contract,
    *,
    latest: Latest | None = None,
    packed_only: bool = False,
) -> LoadedModel:
    """The registered model of that version, for transactions of a contract.

    `latest`: the pointer to go by, if the caller has read it. `packed_only`: whether joblib models are refused.

    Nothing is read of a model before the manifest fits and the file has the digest that the manifest states; of a
    version that was promoted, the manifest has the digest that latest.json states. Raises CannotServe saying what
    does not fit, and NotFound, CorruptModel or Damaged as the registry does.
    """
    return load_published(registry.open(version, latest), contract, packed_only=packed_only)


def check_loadable(found: Published, contract: Contract, *, packed_only: bool = False) -> None:
    """Raise what `load_model` would once the version was promoted as it is: whoever promotes it asks that first.

    It is loaded whole, and scores a row. A joblib model is thereby run as code, as it will be where it serves.
    """
    load_published(replace(found, pinned=True), contract, packed_only=packed_only)


def load_published(found: Published, contract: Contract, *, packed_only: bool = False) -> LoadedModel:
    """As `load_model`, of a version that was opened."""
    version, manifest, features = found.version, found.manifest, FeatureSet(contract)
    try:
        _check(version, manifest, features)
        threshold = float(manifest["threshold"])
        packed = SCORER_FILE in found.files
        if not packed:
            _check_pickle(found, packed_only)
            if why := lacking(manifest):
                raise CannotServe(f"model {version} {why}")
    except (KeyError, TypeError, ValueError) as error:
        raise CannotServe(f"model {version}: its manifest lacks or garbles {error}") from error
    predict, explain = _packed(found) if packed else (_pickled(found), None)
    model = LoadedModel(version, threshold, contract, features, predict, manifest, explain, found.digest)
    _try_out(model)
    return model


def _check(version: str, manifest: dict[str, Any], features: FeatureSet) -> None:
    contract = features.contract
    if manifest["contract"]["digest"] != contract.digest:
        trained_for = parse(manifest["contract"]["text"], f"the contract of model {version}")
        if differ := contract.changes(trained_for, bound=True):
            raise CannotServe(
                f"model {version} was trained for the contract {trained_for.name!r}, and the home's contract.toml "
                f"({contract.name!r}) differs from it in what features are made of: {'; '.join(differ)}; train a model "
                "in this home"
            )
    trained, expected = list(manifest["features"]), list(features.names)
    if trained != expected:
        differ = [f"{a!r} for {b!r}" for a, b in zip(trained, expected, strict=False) if a != b]
        what = f"feature {differ[0]}" if differ else f"{len(trained)} features for {len(expected)}"
        raise CannotServe(
            f"model {version} was trained on other features than this code computes: {what}; train it again"
        )


def _check_pickle(found: Published, packed_only: bool) -> None:
    """A pickle runs as code: only that of a version as it was promoted is read, and only where it is allowed."""
    if packed_only:
        raise CannotServe(
            f"model {found.version} has no packed scorer, and this server loads packed models only: set "
            "FRAUDLINE_MODELS=any (in AWS: `fraudline deploy --allow-joblib`), or promote a packed model"
        )
    if not found.pinned:
        raise CannotServe(
            f"model {found.version} is a joblib model, which runs as code, and latest.json does not pin it: if you "
            f"trust what is stored of it, `fraudline models promote {found.version}` pins it"
        )


def _packed(found: Published) -> tuple[Score, Score | None]:
    try:
        arrays = load(found.read(SCORER_FILE))
        scores = PackedScorer(arrays).scores
        return scores, Contributions(arrays).of if COVER in arrays else None
    except UnusableScorer as error:
        raise CannotServe(f"model {found.version}: {error}; train it again, or roll back to another version") from error


def _pickled(found: Published) -> Score:
    data = found.read(MODEL_FILE)
    import joblib  # brings scikit-learn: a second that only loading should take

    try:
        classifier = joblib.load(io.BytesIO(data))
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"model {found.version} needs the module {error.name!r}, which this server does not have: install what it "
            "comes with, or put it on the PYTHONPATH"
        ) from error
    except Exception as error:  # what unpickling raises depends on what was pickled
        raise CannotServe(f"model {found.version}: {MODEL_FILE} cannot be loaded: {error!r}") from error
    return lambda rows: np.asarray(classifier.predict_proba(rows)[:, 1], np.float64)


def _try_out(model: LoadedModel) -> None:
    """Score one row before any customer waits for it: it must work, and the first time is the slowest."""
    row = np.zeros((1, len(model.features.names)))
    try:
        score = model.score(row)
        model.reasons_for(row)
    except Exception as error:  # a registered model may be any classifier
        raise CannotServe(f"model {model.version} cannot score a row of {row.shape[1]} features: {error!r}") from error
    if not 0.0 <= score <= 1.0:
        raise CannotServe(f"model {model.version} gives the score {score}, expected a probability")
