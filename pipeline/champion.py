"""The champion: the version that serves, as a challenger is compared with it."""

import io
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import Scored
from pipeline.dataset import Dataset
from pipeline.metrics import measure
from pipeline.packed import SCORER_FILE, PackedScorer
from pipeline.reference import REFERENCE_FILE
from pipeline.registry import MODEL_FILE, Published, Registry
from pipeline.train import scores
from processing import contract as contracts
from processing.contract import Contract
from processing.errors import BadInput
from processing.features import FeatureSet
from processing.split import date_of


@dataclass(frozen=True)
class Champion:
    """The champion's scores and metrics on the test rows; its reference, which a version of old may lack."""

    version: str
    scored: Scored
    metrics: dict[str, Any]
    reference: dict[str, Any] | None


def load_champion(
    registry: Registry, contract: Contract, test: Dataset, packed_only: bool = False
) -> tuple[Champion | None, str]:
    """The champion on the test rows; or None, and why there is nothing to compare with.

    It is measured by its packed scorer, if it has one. `packed_only`: a joblib model, which would run as code, is not
    loaded, as the API does not load it then. Raises CorruptModel if its files are not the promoted ones, and BadInput
    for a joblib model that latest.json does not pin.
    """
    latest = registry.latest()
    if latest is None:
        return None, "it is the first model"
    found = registry.open(latest.version, latest)
    version, manifest = found.version, found.manifest
    if manifest["features"] != list(FeatureSet(contract).names):
        return None, f"the champion {version} was trained on other features"
    theirs = contracts.parse(manifest["contract"]["text"], f"the contract of {version}")
    if replace(theirs, text="") != replace(contract, text=""):  # a changed comment changes nothing
        return None, f"the champion {version} was trained under another contract"
    if date.fromisoformat(manifest["window"]["last_day"]) >= date_of(test.day[0]):
        return None, f"the champion {version} was trained on days of this test"
    if SCORER_FILE in found.files:
        score = PackedScorer.from_bytes(found.read(SCORER_FILE)).scores(test.X)
    elif packed_only:
        return None, f"the champion {version} is a joblib model, and only packed models may be loaded here"
    else:
        score = _unpickled(found, test)
    scored = Scored(score, manifest["threshold"])
    reference = found.document(REFERENCE_FILE) if REFERENCE_FILE in found.files else None
    return Champion(version, scored, measure(test, scored.score, scored.threshold, contract), reference), ""


def _unpickled(found: Published, test: Dataset) -> NDArray[np.float64]:
    """The scores of a joblib model. It is code, so it is only loaded as it was promoted."""
    if not found.pinned:
        raise BadInput(
            f"the champion {found.version} is a joblib model, which runs as code, and latest.json does not pin it: if "
            f"you trust what is stored of it, `fraudline models promote {found.version}` pins it"
        )
    return scores(joblib.load(io.BytesIO(found.read(MODEL_FILE))), test.X)
