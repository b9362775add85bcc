"""The models that a challenger is compared with: the champion, which serves, and the versions that served before it.

Each scores the same test rows. A model trained on other features scores the rows that the feature job wrote under that
model's own contract (`processing.job.earlier_features`); the cost of its decisions follows the challenger's contract.

The champion alone would let quality slip: a loss within the margin passes, and the next challenger is compared with the
model that has just lost it. So the versions that served in the last months take part too, which are those that a
rollback could return to. A version that was rolled back from or forced does not: no model should be measured by it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.estimators.joblib_file import read_joblib
from pipeline.estimators.predict import scores
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.model_metrics import measure_model
from pipeline.evaluation.model_reference import REFERENCE_FILE
from pipeline.evaluation.run_rows import NotComparable, RunRows
from pipeline.registry.pointer import Latest
from pipeline.registry.registry import Registry
from pipeline.registry.requirements import unmet_requirement
from pipeline.registry.versions import MODEL_FILE, Published, Version, overruled, part_of
from pipeline.scorer.arrays_file import SCORER_FILE
from pipeline.scorer.forest import PackedScorer
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts.model_contract import training_contract
from processing.errors import BadInput, Damaged, NotFound
from processing.features.feature_set import FeatureSet
from processing.split import date_of

FIRST = "it is the first model"


@dataclass(frozen=True)
class MeasuredVersion:
    """A version's scores and metrics on the test rows, and its reference, which old versions may lack.

    The reference keeps only the features that the challenger has too, with the same values.
    """

    version: str
    scores: ModelScores
    metrics: dict[str, Any]
    reference: dict[str, Any] | None


@dataclass(frozen=True)
class Opponents:
    """The versions that a challenger is compared with.

    champion: the version that serves; None if there is none or it cannot be measured, and `why` says which
    serving: its name, even if it cannot be measured; None for the first model
    earlier: versions that served before, newest first
    passed_over: earlier versions that cannot be measured, and why
    """

    champion: MeasuredVersion | None
    why: str = ""
    serving: str | None = None
    earlier: tuple[MeasuredVersion, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[MeasuredVersion, ...]:
        """Every version that could be measured, the champion first."""
        return (*([self.champion] if self.champion else []), *self.earlier)


def load_opponents(
    registry: Registry,
    rows: RunRows,
    packed_only: bool = False,
    lookback_days: int = 0,
    now: datetime | None = None,
) -> Opponents:
    """The champion and the versions that served in the last `lookback_days`, measured on the test rows.

    A packed version is measured by its packed scorer. With `packed_only`, no joblib model is loaded, as it runs as
    code; the API then does not load it either. Raises CorruptModel if the champion's files are not the promoted ones,
    and BadInput for a joblib model that latest.json does not pin.
    """
    latest = registry.latest()
    if latest is None:
        return Opponents(None, FIRST)
    champion, why = None, ""
    try:
        champion = _measure(registry.open(latest.version, latest), rows, packed_only)
    except NotComparable as error:
        why = str(error)
    earlier, passed_over = [], {}
    since = (now or datetime.now(UTC)) - timedelta(days=lookback_days)
    for version in _served_since(latest, since):
        try:
            published = registry.open(version, latest)
            if overruled(part_of(published.metrics(), "gate")):
                raise NotComparable("it served although the gate had rejected it")
            earlier.append(_measure(published, rows, packed_only))
        except (NotComparable, BadInput, NotFound, Damaged) as error:
            passed_over[version] = str(error)
    return Opponents(champion, why, latest.version, tuple(earlier), passed_over)


def _served_since(latest: Latest, since: datetime) -> Iterator[str]:
    for version in latest.previous:
        end = latest.served_until(version)
        if (datetime.fromisoformat(end) if end else Version.parse(version).created) >= since:
            yield version


def _measure(published: Published, rows: RunRows, packed_only: bool) -> MeasuredVersion:
    version, manifest = published.version, published.manifest
    with _not_comparable_if_invalid(version):
        contract = training_contract(manifest, version)
        if manifest["features"] != list(FeatureSet(contract).names):
            raise NotComparable("this code computes other features from its contract than it was trained on")
        if date.fromisoformat(manifest["window"]["last_day"]) >= date_of(rows.test.day[0]):
            raise NotComparable("it was trained on days of this test, so it has seen their labels")
        threshold = float(manifest["threshold"])
    if SCORER_FILE not in published.files:
        _check_joblib(published, packed_only)
    own_rows = rows.under(contract)
    scored = ModelScores(_score(published, own_rows), threshold)
    metrics = measure_model(rows.test, scored.score, threshold, rows.contract)
    return MeasuredVersion(version, scored, metrics, _reference(published, contract, own_rows, rows))


@contextmanager
def _not_comparable_if_invalid(version: str) -> Iterator[None]:
    """A version whose manifest lacks an entry, or has one that makes no sense, cannot be measured."""
    try:
        yield
    except BadInput as error:
        raise NotComparable(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotComparable(f"the manifest of {version} has a missing or invalid entry: {error}") from error


def _check_joblib(published: Published, packed_only: bool) -> None:
    """A joblib model is code: it is loaded only as it was promoted, and only where that is allowed."""
    if packed_only:
        raise NotComparable("it is a joblib model, and only packed models may be loaded here")
    if not published.pinned:
        raise BadInput(
            f"{published.version} is a joblib model, which runs as code, and latest.json does not pin it; if you trust "
            f"the stored files, `fraudline models promote {published.version}` pins them"
        )
    with _not_comparable_if_invalid(published.version):
        unmet = unmet_requirement(published.manifest)
    if unmet:
        raise NotComparable(f"it {unmet}")


def _score(published: Published, rows: Dataset) -> Floats:
    is_packed = SCORER_FILE in published.files
    data = published.read(SCORER_FILE if is_packed else MODEL_FILE)
    code = None if is_packed else published.own_code()
    try:
        return PackedScorer.from_bytes(data).scores(rows.X) if is_packed else scores(read_joblib(data, code), rows.X)
    except Exception as error:  # a joblib model may be any classifier and may raise anything while it is loaded
        raise NotComparable(f"it cannot score the test rows: {repr(error)[:200]}") from error


def _reference(published: Published, contract: Contract, own_rows: Dataset, rows: RunRows) -> dict[str, Any] | None:
    if REFERENCE_FILE not in published.files:
        return None
    reference = published.document(REFERENCE_FILE)
    if own_rows is rows.test:
        return reference
    ours, names = list(FeatureSet(rows.contract).names), list(FeatureSet(contract).names)
    same = {
        name
        for j, name in enumerate(names)
        if name in ours and np.array_equal(own_rows.X[:, j], rows.test.X[:, ours.index(name)], equal_nan=True)
    }
    return {**reference, "features": {name: one for name, one in reference["features"].items() if name in same}}
