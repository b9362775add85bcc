"""A registered model, checked and loaded, ready to score one row at a time.

A version with packed trees is served from those: no pickle is read, scikit-learn is not imported, and a row takes
microseconds. Any other version is served from its model.joblib. That file is code, and so are the modules that may come
with it, so they are only read if latest.json pins the version and the operator allows it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.registry.registry import MODEL_FILE, Latest, Published, Registry
from pipeline.registry.requirements import unmet_requirement
from pipeline.scorer.arrays_file import COVER, SCORER_FILE, UnusableScorer, read_arrays
from pipeline.scorer.contributions import Contributions
from pipeline.scorer.forest import PackedScorer
from processing.arrays import Floats
from processing.contract import LASTING, Contract
from processing.contracts.model_contract import contracts_kept_for, not_computable, training_contract
from processing.contracts.store_needs import lacking
from processing.errors import FraudlineError
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
from serving.decision.reasons import Reason, Reasons

Score = Callable[[Floats], Floats]


class CannotServe(FraudlineError):
    """This server cannot use a registered model: because of its contract, features, libraries, or the file itself."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can serve.

    contract: the one that it was trained under; features: those of that contract
    predict: from features [n, m], in the order of `features.names`, to scores [n]
    explain: from features [n, m] to their contributions [n, m] (see `pipeline.scorer.contributions`); None for a model
        that is not packed
    digest: the SHA-256 of its manifest
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

    @cached_property
    def plan(self) -> StatePlan:
        """The windows of its contract's entities."""
        return StatePlan(self.contract)

    def score(self, row: Floats) -> float:
        """The probability of fraud for one row of features, [1, m] float64."""
        return float(self.predict(row)[0])

    def reasons_for(self, rows: Floats) -> list[tuple[Reason, ...]] | None:
        """The reasons for fraud in each row of features, [n, m]; None for a model that is not packed."""
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
    """The registered model of that version, for transactions of a home with this contract.

    Its own contract is the one that it was trained under, by which its features are computed.

    `latest` is latest.json if the caller has read it. `packed_only` refuses joblib models.

    A model is only read if its features can be computed and the file has the digest in the manifest. If the version
    is promoted, the manifest must have the digest in latest.json. Raises CannotServe with the mismatch, and NotFound,
    CorruptModel or Damaged as the registry does.
    """
    return load_published(registry.open(version, latest), contract, packed_only=packed_only)


def check_loadable(published: Published, contract: Contract, *, packed_only: bool = False) -> None:
    """Raise what `load_model` would raise if the version were promoted. Call this before promoting it.

    The model is loaded and scores a row. A joblib model therefore runs as code, as it will where it serves. Also raises
    CannotServe for a model of an earlier contract whose features need what the online store does not keep.
    """
    model = load_published(replace(published, pinned=True), contract, packed_only=packed_only)
    if why := lacking(model.contract, contracts_kept_for(published.home, contract)):
        raise CannotServe(
            f"model {model.version} {why}: run with a contract that has the same window and aggregate, then promote it"
        )


def load_published(published: Published, contract: Contract, *, packed_only: bool = False) -> LoadedModel:
    """Like `load_model`, for a version that is open already."""
    version, manifest = published.version, published.manifest
    try:
        features = _features(version, manifest, contract)
        threshold = float(manifest["threshold"])
        packed = SCORER_FILE in published.files
        if not packed:
            _check_pickle(published, packed_only)
            if why := unmet_requirement(manifest):
                raise CannotServe(f"model {version} {why}")
    except (KeyError, TypeError, ValueError) as error:
        raise CannotServe(f"model {version}: its manifest lacks {error}, or it is invalid") from error
    predict, explain = _packed(published) if packed else (_pickled(published), None)
    model = LoadedModel(version, threshold, features.contract, features, predict, manifest, explain, published.digest)
    _try_out(model)
    return model


def _features(version: str, manifest: dict[str, Any], contract: Contract) -> FeatureSet:
    """The features that a model was trained on, if they can be computed for transactions of a contract."""
    trained_under = contract
    if manifest["contract"]["digest"] != contract.digest:
        trained_under = training_contract(manifest, f"model {version}")
        if why := not_computable(trained_under, contract) or _differs(trained_under, contract):
            raise CannotServe(
                f"model {version} was trained for the contract {trained_under.name!r}, and does not fit the home's "
                f"contract.toml ({contract.name!r}): {why}; train a model in this home"
            )
    features = FeatureSet(trained_under)
    trained, expected = list(manifest["features"]), list(features.names)
    if trained != expected:
        differ = [f"{a!r} for {b!r}" for a, b in zip(trained, expected, strict=False) if a != b]
        what = f"feature {differ[0]}" if differ else f"{len(trained)} features for {len(expected)}"
        raise CannotServe(
            f"model {version} was trained on different features than this code computes: {what}; train it again"
        )
    return features


def _differs(theirs: Contract, ours: Contract) -> str:
    """What a home never changes and still differs from a model's contract; "" if nothing does."""
    if differ := ours.changes(theirs, LASTING):
        return "; ".join(differ)
    for was in theirs.entities:
        for now in ours.entities:  # by the name of an entity the online store keeps what its features need
            if was.name == now.name and was.columns != now.columns:
                return (
                    f"its entity {now.name!r} was identified by {was.identified_by}, and is by {now.identified_by} now"
                )
    return ""


def _check_pickle(published: Published, packed_only: bool) -> None:
    """A pickle runs as code, so it is only read from a pinned version, and only where that is allowed."""
    if packed_only:
        raise CannotServe(
            f"model {published.version} has no packed scorer, and this server loads packed models only: set "
            "FRAUDLINE_MODELS=any (in AWS: `fraudline deploy --allow-joblib`), or promote a packed model"
        )
    if not published.pinned:
        raise CannotServe(
            f"model {published.version} is a joblib model, which runs as code, and latest.json does not pin it: if you "
            f"trust the stored file, run `fraudline models promote {published.version}` to pin it"
        )


def _packed(published: Published) -> tuple[Score, Score | None]:
    try:
        arrays = read_arrays(published.read(SCORER_FILE))
        scores = PackedScorer(arrays).scores
        return scores, Contributions(arrays).of if COVER in arrays else None
    except UnusableScorer as error:
        raise CannotServe(
            f"model {published.version}: {error}; train it again, or roll back to another version"
        ) from error


def _pickled(published: Published) -> Score:
    data = published.read(MODEL_FILE)
    code = published.own_code()
    from pipeline.estimators.joblib_file import read_joblib  # imports scikit-learn, which takes a second

    try:
        classifier = read_joblib(data, code)
    except ModuleNotFoundError as error:
        raise CannotServe(
            f"model {published.version} needs the module {error.name!r}, which this server does not have: install its "
            "package, or add it to PYTHONPATH"
        ) from error
    except Exception as error:  # what unpickling raises depends on what was pickled
        raise CannotServe(f"model {published.version}: {MODEL_FILE} cannot be loaded: {error!r}") from error
    return lambda rows: np.asarray(classifier.predict_proba(rows)[:, 1], np.float64)


def _try_out(model: LoadedModel) -> None:
    """Score one row before any customer waits for it: it must work, and the first call is the slowest."""
    row = np.zeros((1, len(model.features.names)))
    try:
        score = model.score(row)
        model.reasons_for(row)
    except Exception as error:  # a registered model may be any classifier
        raise CannotServe(f"model {model.version} cannot score a row of {row.shape[1]} features: {error!r}") from error
    if not 0.0 <= score <= 1.0:
        raise CannotServe(f"model {model.version} gives the score {score}; expected a probability")
