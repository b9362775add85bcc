"""The models that a challenger is compared with: the champion, which serves, and those that served before it.

Each scores the same test rows. A model that was trained on other features scores them as the feature job wrote them
under that model's own contract (`processing.job.earlier_features`); what its decisions cost is counted by the
challenger's contract.

The champion alone would let quality slip away: a loss within the margin passes, and the next challenger is held against
the model that has just lost it. So the versions that served in the last months take part too, all that a rollback could
step back to. One that was rolled back from does not, nor one that was forced: neither is what a model should be.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from pipeline.estimators.predict import scores
from pipeline.evaluation.bootstrap import Scored
from pipeline.evaluation.metrics import measure
from pipeline.evaluation.reference import REFERENCE_FILE
from pipeline.registry.needs import lacking
from pipeline.registry.registry import MODEL_FILE, Latest, Published, Registry, Version
from pipeline.registry.versions import overruled, part_of
from pipeline.scorer.forest import SCORER_FILE, PackedScorer
from processing.contract import Contract
from processing.errors import BadInput, Damaged, NotFound
from processing.features.feature_set import FeatureSet
from processing.job.earlier_features import folder_of, not_computable, training_contract
from processing.split import date_of
from processing.storage.home import Home
from processing.storage.scratch import scratch_folder

FIRST = "it is the first model"


class NotComparable(Exception):
    """A version cannot be measured on the test rows; the message says why."""


@dataclass(frozen=True)
class Champion:
    """A version's scores and metrics on the test rows; its reference, which a version of old may lack.

    The reference has those features alone that the challenger has too, with the same values.
    """

    version: str
    scored: Scored
    metrics: dict[str, Any]
    reference: dict[str, Any] | None


@dataclass(frozen=True)
class Opponents:
    """Whom the challenger meets.

    champion: the version that serves; None if it is not there or cannot be measured, and `why` says which
    serving: its name, even then; None for the first model
    earlier: versions that served before, newest first
    passed_over: of those the ones that cannot be measured, and why
    """

    champion: Champion | None
    why: str = ""
    serving: str | None = None
    earlier: tuple[Champion, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The test rows of a run: as its own contract has them, and, by `under`, as another one does."""

    home: Home
    run: str
    contract: Contract
    test: Dataset
    _read: dict[str, Dataset] = field(default_factory=dict)

    def under(self, theirs: Contract) -> Dataset:
        """The same rows with the features of a contract of before, each kind read once.

        Raises NotComparable if there are none, and Damaged if they are not the same rows.
        """
        if FeatureSet(theirs).definition == FeatureSet(self.contract).definition:
            return self.test
        if why := not_computable(theirs, self.contract):
            raise NotComparable(why)
        folder = folder_of(self.run, theirs)
        if folder not in self._read:
            self._read[folder] = self._written(folder, theirs)
        return self._read[folder]

    def _written(self, folder: str, theirs: Contract) -> Dataset:
        keys = [entry.key for entry in self.home.entries(f"{folder}/") if entry.key.endswith(".parquet")]
        if not keys:
            raise NotComparable("the feature job wrote no test rows with its features")
        with scratch_folder("earlier") as scratch:
            for number, key in enumerate(keys):
                (scratch / f"{number}.parquet").write_bytes(self.home.read(key))
            found = dataset.read(scratch, theirs)
        for name in ("ids", "day", "y", "amount"):  # both are in the order of time and id
            if not np.array_equal(getattr(found, name), getattr(self.test, name)):
                raise Damaged(f"{self.home.url_of(folder)} does not hold the rows of the test set; run again")
        return found


def load_opponents(
    registry: Registry,
    run: str,
    contract: Contract,
    test: Dataset,
    packed_only: bool = False,
    lookback_days: int = 0,
    now: datetime | None = None,
) -> Opponents:
    """The champion and the versions that served in the last `lookback_days`, on the test rows.

    Each is measured by its packed scorer, if it has one. `packed_only`: a joblib model, which would run as code, is not
    loaded, as the API does not load it then. Raises CorruptModel if the champion's files are not the promoted ones,
    and BadInput for a joblib model that latest.json does not pin.
    """
    latest = registry.latest()
    if latest is None:
        return Opponents(None, FIRST)
    rows = Rows(registry.home, run, contract, test)
    champion, why = None, ""
    try:
        champion = _measured(registry.open(latest.version, latest), rows, packed_only)
    except NotComparable as error:
        why = str(error)
    earlier, passed_over = [], {}
    since = (now or datetime.now(UTC)) - timedelta(days=lookback_days)
    for version in _served_since(latest, since):
        try:
            found = registry.open(version, latest)
            if overruled(part_of(found.metrics(), "gate")):
                raise NotComparable("it served against the gate")
            earlier.append(_measured(found, rows, packed_only))
        except (NotComparable, BadInput, NotFound, Damaged) as error:
            passed_over[version] = str(error)
    return Opponents(champion, why, latest.version, tuple(earlier), passed_over)


def _served_since(latest: Latest, since: datetime) -> Iterator[str]:
    for version in latest.previous:
        end = latest.served_until(version)
        if (datetime.fromisoformat(end) if end else Version.parse(version).created) >= since:
            yield version


def _measured(found: Published, rows: Rows, packed_only: bool) -> Champion:
    version, manifest, test = found.version, found.manifest, rows.test
    with _incomparable(version):
        theirs = training_contract(manifest, version)
        if manifest["features"] != list(FeatureSet(theirs).names):
            raise NotComparable("this code computes other features of its contract than it was trained on")
        if date.fromisoformat(manifest["window"]["last_day"]) >= date_of(test.day[0]):
            raise NotComparable("it was trained on days of this test, whose labels it has seen")
        threshold = float(manifest["threshold"])
    if SCORER_FILE not in found.files:
        _check_pickle(found, packed_only)
    seen = rows.under(theirs)
    scored = Scored(_scores(found, seen), threshold)
    metrics = measure(test, scored.score, threshold, rows.contract)
    return Champion(version, scored, metrics, _reference(found, theirs, seen, rows))


@contextmanager
def _incomparable(version: str) -> Iterator[None]:
    """What a manifest lacks, or what cannot be understood of it, makes its version one that cannot be measured."""
    try:
        yield
    except BadInput as error:
        raise NotComparable(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise NotComparable(f"the manifest of {version} lacks or garbles {error}") from error


def _check_pickle(found: Published, packed_only: bool) -> None:
    """A joblib model is code, so it is only loaded as it was promoted, and where that is allowed."""
    if packed_only:
        raise NotComparable("it is a joblib model, and only packed models may be loaded here")
    if not found.pinned:
        raise BadInput(
            f"{found.version} is a joblib model, which runs as code, and latest.json does not pin it: if you trust "
            f"what is stored of it, `fraudline models promote {found.version}` pins it"
        )
    with _incomparable(found.version):
        why = lacking(found.manifest)
    if why:
        raise NotComparable(why)


def _scores(found: Published, seen: Dataset) -> NDArray[np.float64]:
    packed = SCORER_FILE in found.files
    data = found.read(SCORER_FILE if packed else MODEL_FILE)
    try:
        if packed:
            return PackedScorer.from_bytes(data).scores(seen.X)
        return scores(joblib.load(io.BytesIO(data)), seen.X)
    except Exception as error:  # a joblib model may be any classifier, and raise anything as it is loaded
        raise NotComparable(f"it cannot score the test rows: {repr(error)[:200]}") from error


def _reference(found: Published, theirs: Contract, seen: Dataset, rows: Rows) -> dict[str, Any] | None:
    if REFERENCE_FILE not in found.files:
        return None
    reference = found.document(REFERENCE_FILE)
    if seen is rows.test:
        return reference
    ours, names = list(FeatureSet(rows.contract).names), list(FeatureSet(theirs).names)
    same = {
        name
        for j, name in enumerate(names)
        if name in ours and np.array_equal(seen.X[:, j], rows.test.X[:, ours.index(name)], equal_nan=True)
    }
    return {**reference, "features": {name: one for name, one in reference["features"].items() if name in same}}
