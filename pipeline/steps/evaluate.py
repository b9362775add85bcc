"""The Evaluate step, a SageMaker processing job.

    python3 -m pipeline.steps.evaluate --home H --run R --floor F [--confidence C] [--margin M] [--lookback-days D]
        [--forced-by WHO]

Measures the challenger (processing/model/model.tar.gz, from the Train step) and the models that served before it
(`pipeline.evaluation.champion`) on the same test rows (processing/test), checks the data and the model, passes the
gate's verdict, publishes the challenger to the registry (with its report and its reference), and leaves
processing/evaluation/evaluation.json for the pipeline's conditions. That names the manifest by its digest, so that what
is promoted is what was evaluated.

What is measured is what would serve: the packed scorer.npz that training delivered, if there is one. Its model.joblib
is then published without being read. One without a scorer has to be unpickled, which runs what training made; that is
refused where FRAUDLINE_MODELS is `packed`, as it is in AWS unless a joblib model was asked for at deployment.
"""

import argparse
import json
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from pipeline.estimators.predict import scores
from pipeline.evaluation.bootstrap import Scored
from pipeline.evaluation.champion import Champion, Opponents, load_opponents
from pipeline.evaluation.checks import PASSED, REASONS, WARNING, WELL, Finding, check, drift
from pipeline.evaluation.gate import Rules, compare, compare_with_best, verdict
from pipeline.evaluation.metrics import in_words, measure
from pipeline.evaluation.reference import REFERENCE_FILE, reference_of
from pipeline.evaluation.report import Evaluated, report_of
from pipeline.registry.needs import HOMELESS, NEEDS
from pipeline.registry.registry import MODEL_FILE, REPORT_FILE, Registry, packed_only
from pipeline.scorer.forest import COVER, SCORER_FILE, PackedScorer, load
from pipeline.steps import container
from pipeline.steps.manifest import manifest_of
from pipeline.training.fit import TRAINING_FILE
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.storage.documents import parse_document
from processing.storage.open import open_home

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class Challenger:
    """What the Train step delivered.

    file: model.joblib; scorer: scorer.npz, if there is one; training: the record of the training
    score: takes [n, m] features to [n] scores, as the model will when it serves
    explains: whether it gives reasons for its scores
    """

    file: bytes
    scorer: bytes | None
    training: dict[str, Any]
    score: Score
    explains: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    """The step. Any failure ends it with exit code 1 and its reason in the container's failure file."""
    with container.reported_failures():
        parser = argparse.ArgumentParser(prog="python3 -m pipeline.steps.evaluate")
        parser.add_argument("--home", required=True, help="address of the home")
        parser.add_argument("--run", required=True, help="the pipeline run's id")
        parser.add_argument("--floor", required=True, type=float, help="least average precision that may serve")
        parser.add_argument("--confidence", default=Rules.confidence, type=float, help="that it is no worse")
        parser.add_argument("--margin", default=Rules.margin, type=float, help="by how much it may be worse")
        parser.add_argument("--lookback-days", default=Rules.lookback_days, type=int, help="of models to compare with")
        parser.add_argument("--forced-by", default="", help="who lets the model serve whatever the gate says")
        given = parser.parse_args(arguments)
        rules = Rules(given.floor, given.confidence, given.margin, given.forced_by, given.lookback_days)
        contract = contracts.load(container.processing_path("contract") / "contract.toml")
        challenger = load_challenger(container.processing_path("model") / "model.tar.gz", contract, packed_only())
        test = dataset.read(container.processing_path("test"), contract)
        print(f"read {test.rows} test rows, {test.frauds} frauds", flush=True)
        registry = Registry(open_home(given.home))
        evaluation = evaluate(registry, given.run, contract, challenger, test, rules, packed_only())
        folder = container.processing_path("evaluation")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EVALUATION_FILE).write_text(json.dumps(evaluation, indent=2), encoding="utf-8")


def evaluate(
    registry: Registry,
    run: str,
    contract: Contract,
    challenger: Challenger,
    test: Dataset,
    rules: Rules,
    packed_only: bool = False,
) -> dict[str, Any]:
    """Measure, check, judge and publish a challenger; gives what evaluation.json says.

    {"version", "manifest" (the SHA-256 of the version's manifest), "metrics": {...}, "in_words", "champion":
    {"version", metrics...} or None, "comparison": {...} or None, "best": {...} or None, "passed_over": {version: why},
    "checks": [{...}], "drift": {feature: PSI} or None, "gate": {...}}: see `pipeline.evaluation.metrics.measure`,
    `pipeline.evaluation.gate`, `pipeline.evaluation.champion` and `pipeline.evaluation.checks`; the gate also has
    "notes", what to know before the model is promoted. Without "version" and "manifest" it is the version's
    metrics.json. Raises CorruptModel if the champion's files are not the promoted ones.
    """
    names = FeatureSet(contract).names
    ours = Scored(_scored(challenger, test), challenger.training["threshold"])
    metrics = measure(test, ours.score, ours.threshold, contract)
    print(f"challenger: average precision {metrics['average_precision']:.4f}", flush=True)
    opponents = load_opponents(registry, run, contract, test, packed_only, rules.lookback_days)
    champion = opponents.champion
    for one in _all(opponents):
        print(f"{one.version}: average precision {one.metrics['average_precision']:.4f}", flush=True)
    reference = reference_of(test, ours.score, ours.threshold, names)
    loss = metrics["cost_of_no_alerts"] / metrics["days"]
    comparison = compare(test, ours, champion.scored, contract, loss, rules) if champion else None
    earlier = {one.version: (one.scored, one.metrics) for one in (_all(opponents) if opponents.earlier else ())}
    compared = {champion.version: comparison} if champion and comparison else {}
    best = compare_with_best(test, ours, earlier, contract, loss, rules, compared)
    known = {"frauds": challenger.training["frauds"], "features": challenger.training.get("strengths", {})}
    findings = [*check(test, names, reference, known, champion.reference if champion else None), _explains(challenger)]
    for finding in findings:
        if finding.status != PASSED:
            print(f"{finding.status}: {finding.check}: {finding.says}", flush=True)
    judged = verdict(metrics["average_precision"], comparison, opponents.serving, findings, rules, opponents.why, best)
    results: dict[str, Any] = {
        "metrics": metrics,
        "in_words": in_words(metrics, contract),
        "champion": {"version": champion.version, **champion.metrics} if champion else None,
        "comparison": comparison,
        "best": best,
        "passed_over": dict(opponents.passed_over),
        "checks": [asdict(finding) for finding in findings],
        "drift": drift(test, names, champion.reference) if champion and champion.reference else None,
        "gate": {**judged, "notes": _notes(findings, opponents)},
    }
    print(judged["reason"], results["in_words"], sep="\n", flush=True)
    name = publish(registry, run, contract, challenger, test, ours, champion, reference, results)
    print(f"published version {name}", flush=True)
    return {"version": name, "manifest": registry.open(name).digest, **results}


def _all(opponents: Opponents) -> list[Champion]:
    return [*([opponents.champion] if opponents.champion else []), *opponents.earlier]


def _explains(challenger: Challenger) -> Finding:
    """Whether the model says why it calls a payment fraud: one that cannot is promoted knowingly, or not at all."""
    if challenger.explains:
        return Finding(REASONS, PASSED, None, WELL[REASONS])
    said = f"it gives no reasons for its decisions: {challenger.training.get('scorer_reason', 'it was not packed')}"
    if challenger.scorer is None:
        needs = [f"{name} {version}" for name, version in challenger.training.get(NEEDS, {}).items()]
        needs += [f"the module {name}" for name in challenger.training.get(HOMELESS, ())]
        said += f"; wherever it serves it needs {', '.join(needs)}" if needs else ""
    return Finding(REASONS, WARNING, None, said)


def _notes(findings: Sequence[Finding], opponents: Opponents) -> list[str]:
    notes = [finding.says for finding in findings if finding.check == REASONS and finding.status == WARNING]
    notes += [
        f"{version}, which served before, was not compared with: {why}"
        for version, why in opponents.passed_over.items()
    ]
    return [note[0].upper() + note[1:] for note in notes]


def publish(
    registry: Registry,
    run: str,
    contract: Contract,
    challenger: Challenger,
    test: Dataset,
    ours: Scored,
    champion: Champion | None,
    reference: dict[str, Any],
    results: dict[str, Any],
) -> str:
    """Store the challenger with all that is told of it; its version."""
    scorer = {"scorer": "packed" if challenger.scorer else "joblib"}
    manifest = {**manifest_of(registry.home, run, contract, challenger.training, test), **scorer}
    evaluated = Evaluated(contract, test, challenger.score, ours, champion.scored if champion else None)
    return registry.publish(
        {
            MODEL_FILE: challenger.file,
            REFERENCE_FILE: json.dumps(reference, indent=1).encode(),
            REPORT_FILE: lambda version: report_of(version, evaluated, manifest, results),
            **({SCORER_FILE: challenger.scorer} if challenger.scorer else {}),
        },
        manifest,
        results,
        datetime.now(UTC),
    )


def load_challenger(archive: Path, contract: Contract, packed_only: bool = False) -> Challenger:
    """The model in a model.tar.gz; `packed_only`: one that would have to be unpickled is refused.

    Raises BadInput if it lacks a file, was trained under another contract, or may not be loaded, and UnusableScorer.
    """
    try:
        with tarfile.open(archive) as tar:  # nothing is unpacked: only these are read, whatever else there is
            found = {PurePosixPath(member.name): member for member in tar if member.isfile()}
            file, text = (_content(tar, found, name) for name in (MODEL_FILE, TRAINING_FILE))
            scorer = _content(tar, found, SCORER_FILE) if PurePosixPath(SCORER_FILE) in found else None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{archive} does not deliver {MODEL_FILE} and {TRAINING_FILE}: {error}") from None
    training = parse_document(text, f"{TRAINING_FILE} in {archive}", "train again")
    if training["contract"]["digest"] != contract.digest:
        raise BadInput(
            f"{archive} was trained under the contract {training['contract']['name']!r} "
            f"({training['contract']['digest'][:12]}), and is to be tested under {contract.name!r} "
            f"({contract.digest[:12]}); train again under this one"
        )
    if scorer is not None:
        return Challenger(file, scorer, training, PackedScorer.from_bytes(scorer).scores, COVER in load(scorer))
    if packed_only:
        raise BadInput(
            f"{archive} holds a joblib model, which would have to be run as code, and only packed models may be loaded "
            f"here ({training.get('scorer_reason', 'it was not packed')}): choose an estimator that can be packed, or "
            "set FRAUDLINE_MODELS=any (in AWS: `fraudline deploy --allow-joblib`)"
        )
    return Challenger(file, None, training, partial(scores, joblib.load(BytesIO(file))))


def _scored(challenger: Challenger, test: Dataset) -> NDArray[np.float64]:
    try:
        return challenger.score(test.X)
    except ValueError as error:
        raise BadInput(f"the challenger cannot score the test rows: {error}; train again") from error


def _content(tar: tarfile.TarFile, found: Mapping[PurePosixPath, tarfile.TarInfo], name: str) -> bytes:
    file = tar.extractfile(found[PurePosixPath(name)]) if PurePosixPath(name) in found else None
    if file is None:
        raise FileNotFoundError(f"it holds no {name}")
    return file.read()


if __name__ == "__main__":
    main()
