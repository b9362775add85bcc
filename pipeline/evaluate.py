"""The Evaluate step, a SageMaker processing job.

    python3 -m pipeline.evaluate --home H --run R --floor F [--improvement I]

Measures the challenger (processing/model/model.tar.gz, from the Train step) and the champion (the version that
serves) on the same test rows (processing/test), passes the gate's verdict, publishes the challenger to the
registry (with a packed scorer.npz beside its model.joblib if both score alike), and leaves
processing/evaluation/evaluation.json for the pipeline's condition.
"""

import argparse
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline import container, dataset
from pipeline.dataset import Dataset
from pipeline.manifest import manifest_of
from pipeline.metrics import measure
from pipeline.packed import SCORER_FILE
from pipeline.packing import packed_file
from pipeline.registry import MODEL_FILE, Latest, Registry
from pipeline.train import TRAINING_FILE, scores
from processing import contract as contracts
from processing.contract import Contract
from processing.errors import BadInput
from processing.features import FeatureSet
from processing.home import open_home

Floats = NDArray[np.float64]

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class Challenger:
    """What the Train step delivered: the model file, the classifier in it, and the record of its training."""

    file: bytes
    model: Any
    training: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """The step. Any failure ends it with exit code 1 and its reason in the container's failure file."""
    with container.reported_failures():
        parser = argparse.ArgumentParser(prog="python3 -m pipeline.evaluate")
        parser.add_argument("--home", required=True, help="address of the home")
        parser.add_argument("--run", required=True, help="the pipeline run's id")
        parser.add_argument("--floor", required=True, type=float, help="least average precision that may serve")
        parser.add_argument(
            "--improvement", default=0.0, type=float, help="least difference in average precision to the champion"
        )
        given = parser.parse_args(arguments)
        contract = contracts.load(container.processing_path("contract") / "contract.toml")
        challenger = load_challenger(container.processing_path("model") / "model.tar.gz", contract)
        test = dataset.read(container.processing_path("test"), contract)
        print(f"read {test.rows} test rows, {test.frauds} frauds", flush=True)
        registry = Registry(open_home(given.home))
        evaluation = evaluate(registry, given.run, contract, challenger, test, given.floor, given.improvement)
        folder = container.processing_path("evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EVALUATION_FILE).write_text(json.dumps(evaluation, indent=2), encoding="utf-8")


def evaluate(
    registry: Registry,
    run: str,
    contract: Contract,
    challenger: Challenger,
    test: Dataset,
    floor: float,
    improvement: float = 0.0,
) -> dict[str, Any]:
    """Measure, judge and publish a challenger; gives what evaluation.json says.

    {"version", "metrics": {...}, "champion": {...} or None, "gate": {"passed", "average_precision", "difference",
    "reason"}}; the metrics are those of `pipeline.metrics.measure`. Raises CorruptModel if the champion's files are
    not the published ones.
    """
    metrics = measure(test, scores(challenger.model, test.X), challenger.training["threshold"], contract)
    print(f"challenger: average precision {metrics['average_precision']:.4f}", flush=True)
    champion, why_none = measure_champion(registry, registry.latest(), contract, test)
    if champion:
        print(f"champion {champion['version']}: average precision {champion['average_precision']:.4f}", flush=True)
    verdict = gate(metrics["average_precision"], champion, floor, improvement, why_none)
    print(verdict["reason"], flush=True)
    results = {"metrics": metrics, "champion": champion, "gate": verdict}
    packed, why = packed_file(challenger.model, test.X)
    scorer = {"scorer": "packed" if packed else "joblib", "scorer_reason": why}
    print(f"scorer {scorer['scorer']}: {why}", flush=True)
    name = registry.publish(
        {MODEL_FILE: challenger.file, **({SCORER_FILE: packed} if packed else {})},
        {**manifest_of(registry.home, run, contract, challenger.training, test), **scorer},
        results,
        datetime.now(UTC),
    )
    print(f"published version {name}", flush=True)
    return {"version": name, **results}


def gate(
    average_precision: float,
    champion: dict[str, Any] | None,
    floor: float,
    improvement: float = 0.0,
    why_none: str = "",
) -> dict[str, Any]:
    """The verdict: a challenger passes if it reaches the floor and beats the champion by at least `improvement`.

    By default no worse is enough. Without a champion to compare with, which `why_none` explains, the floor decides.
    The reason is one sentence either way.
    """
    difference = average_precision - champion["average_precision"] if champion else 0.0
    reaches, improves = average_precision >= floor, champion is None or difference >= improvement
    if champion is None:
        compared = f"there is no champion to compare with: {why_none}"
    elif difference == 0.0:
        compared = f"equals that of the champion {champion['version']}"
    else:
        side = "above" if difference > 0.0 else "below"
        compared = f"lies {abs(difference):.2g} {side} that of the champion {champion['version']}"
    if improvement and champion:
        compared += f", where {improvement:+g} is asked for"
    return {
        "passed": reaches and improves,
        "average_precision": average_precision,
        "difference": difference,
        "reason": (
            f"The model {'passed' if reaches and improves else 'did not pass'}: its average precision "
            f"{average_precision:.4f} {'reaches' if reaches else 'is below'} the floor {floor:g}, "
            f"{'and' if reaches == improves else 'but'} {compared}."
        ),
    }


def measure_champion(
    registry: Registry, latest: Latest | None, contract: Contract, test: Dataset
) -> tuple[dict[str, Any] | None, str]:
    """The serving version's name and metrics on the test rows; or None, and why there is nothing to compare with."""
    if latest is None:
        return None, "it is the first model"
    manifest = registry.manifest(latest.version)
    if manifest["features"] != list(FeatureSet(contract).names):
        return None, f"the champion {latest.version} was trained on other features"
    theirs = contracts.parse(manifest["contract"]["text"], f"the contract of {latest.version}")
    if replace(theirs, text="") != replace(contract, text=""):  # a changed comment changes nothing
        return None, f"the champion {latest.version} was trained under another contract"
    model = joblib.load(io.BytesIO(registry.read_file(latest.version, MODEL_FILE)))
    metrics = measure(test, scores(model, test.X), manifest["threshold"], contract)
    return {"version": latest.version, **metrics}, ""


def load_challenger(archive: Path, contract: Contract) -> Challenger:
    """The model in a model.tar.gz. Raises BadInput if it lacks a file, or was trained under another contract."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")  # refuses what would land outside, links and devices
            file = (Path(folder) / MODEL_FILE).read_bytes()
            training = json.loads((Path(folder) / TRAINING_FILE).read_text(encoding="utf-8"))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{archive} does not deliver {MODEL_FILE} and {TRAINING_FILE}: {error}") from None
    if training["contract"]["digest"] != contract.digest:
        raise BadInput(
            f"{archive} was trained under the contract {training['contract']['name']!r} "
            f"({training['contract']['digest'][:12]}), and is to be tested under {contract.name!r} "
            f"({contract.digest[:12]}); train again under this one"
        )
    return Challenger(file, joblib.load(io.BytesIO(file)), training)


if __name__ == "__main__":
    main()
