"""The champion: the version that serves, as a challenger is compared with it."""

import io
import json
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import joblib

from pipeline.bootstrap import Scored
from pipeline.dataset import Dataset
from pipeline.metrics import measure
from pipeline.reference import REFERENCE_FILE
from pipeline.registry import MODEL_FILE, Registry
from pipeline.train import scores
from processing import contract as contracts
from processing.contract import Contract
from processing.features import FeatureSet
from processing.split import date_of


@dataclass(frozen=True)
class Champion:
    """The champion's scores and metrics on the test rows; its reference, which a version of old may lack."""

    version: str
    scored: Scored
    metrics: dict[str, Any]
    reference: dict[str, Any] | None


def load_champion(registry: Registry, contract: Contract, test: Dataset) -> tuple[Champion | None, str]:
    """The champion on the test rows; or None, and why there is nothing to compare with.

    Raises CorruptModel if its files are not the published ones.
    """
    latest = registry.latest()
    if latest is None:
        return None, "it is the first model"
    version, manifest = latest.version, registry.manifest(latest.version)
    if manifest["features"] != list(FeatureSet(contract).names):
        return None, f"the champion {version} was trained on other features"
    theirs = contracts.parse(manifest["contract"]["text"], f"the contract of {version}")
    if replace(theirs, text="") != replace(contract, text=""):  # a changed comment changes nothing
        return None, f"the champion {version} was trained under another contract"
    if date.fromisoformat(manifest["window"]["last_day"]) >= date_of(test.day[0]):
        return None, f"the champion {version} was trained on days of this test"
    model = joblib.load(io.BytesIO(registry.read_file(version, MODEL_FILE)))
    scored = Scored(scores(model, test.X), manifest["threshold"])
    reference = None
    if REFERENCE_FILE in manifest["files"]:
        reference = json.loads(registry.read_file(version, REFERENCE_FILE))
    return Champion(version, scored, measure(test, scored.score, scored.threshold, contract), reference), ""
