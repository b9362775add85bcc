"""The evaluation of a challenger: measured, compared, checked, judged and published with its report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.checks import PASSED, PASSED_TEXTS, REASONS, WARNING, CheckFinding, run_checks
from pipeline.evaluation.gate import verdict
from pipeline.evaluation.gate_rules import GateRules
from pipeline.evaluation.manifest import manifest_of
from pipeline.evaluation.model_comparison import compare_models, compare_with_best
from pipeline.evaluation.model_metrics import measure_model, metrics_in_words
from pipeline.evaluation.model_reference import REFERENCE_FILE, feature_psi, reference_of
from pipeline.evaluation.opponents import MeasuredVersion, Opponents, load_opponents
from pipeline.evaluation.report.model_report import ReportInput, model_report
from pipeline.evaluation.run_rows import RunRows
from pipeline.registry.registry import Registry
from pipeline.registry.versions import REPORT_FILE
from pipeline.scorer.bundle import ModelBundle
from processing.features.feature_set import FeatureSet


@dataclass(frozen=True)
class Evaluation:
    """A challenger that was evaluated on a run's test rows.

    scores: the challenger's; champion: None if there is none to compare with
    reference: the content of reference.json
    results: the content of metrics.json, see `evaluate`
    """

    rows: RunRows
    bundle: ModelBundle
    scores: ModelScores
    champion: MeasuredVersion | None
    reference: dict[str, Any]
    results: dict[str, Any]

    def publish(self, registry: Registry) -> str:
        """Store the model with its reference, report and metrics; returns its version."""
        manifest = manifest_of(self.rows, self.bundle)
        theirs = self.champion.scores if self.champion else None
        shown = ReportInput(self.rows.contract, self.rows.test, self.bundle.scores, self.scores, theirs)
        return registry.publish(
            {
                **self.bundle.files,
                REFERENCE_FILE: json.dumps(self.reference, indent=1).encode(),
                REPORT_FILE: lambda version: model_report(version, shown, manifest, self.results),
            },
            manifest,
            self.results,
            datetime.now(UTC),
        )


def evaluate(
    registry: Registry, rows: RunRows, bundle: ModelBundle, rules: GateRules, *, packed_only: bool = False
) -> Evaluation:
    """Measure, compare, check and judge a challenger on a run's test rows.

    The results are {"metrics": {...}, "in_words", "champion": {"version", metrics...} or None, "comparison": {...} or
    None, "best": {...} or None, "passed_over": {version: why}, "checks": [{...}], "drift": {feature: PSI} or None,
    "gate": {...}}: see `measure_model`, `pipeline.evaluation.model_comparison`, `pipeline.evaluation.checks` and
    `pipeline.evaluation.gate`; the gate also has "notes", what to know before the model is promoted. Raises BadInput if
    the challenger may not be loaded or cannot score, CorruptModel if the champion's files are not the promoted ones.
    """
    bundle.check(rows.contract, packed_only=packed_only)
    test, contract, names = rows.test, rows.contract, FeatureSet(rows.contract).names
    scores = ModelScores(bundle.scores(test.X), bundle.training["threshold"])
    metrics = measure_model(test, scores.score, scores.threshold, contract)
    print(f"challenger: average precision {metrics['average_precision']:.4f}", flush=True)
    opponents = load_opponents(registry, rows, packed_only, rules.lookback_days)
    champion = opponents.champion
    for opponent in opponents.measured:
        print(f"{opponent.version}: average precision {opponent.metrics['average_precision']:.4f}", flush=True)

    loss = metrics["cost_of_no_alerts"] / metrics["days"]
    comparison = compare_models(test, scores, champion.scores, contract, loss, rules) if champion else None
    versions = {one.version: (one.scores, one.metrics) for one in (opponents.measured if opponents.earlier else ())}
    known = {champion.version: comparison} if champion and comparison else {}
    best = compare_with_best(test, scores, versions, contract, loss, rules, known)

    reference = reference_of(test, scores.score, scores.threshold, names)
    training = {"frauds": bundle.training["frauds"], "features": bundle.training.get("strengths", {})}
    champions = champion.reference if champion else None
    findings = [*run_checks(test, names, reference, training, champions), _explains(bundle)]
    for finding in findings:
        if finding.status != PASSED:
            print(f"{finding.status}: {finding.check}: {finding.says}", flush=True)

    precision = metrics["average_precision"]
    gate = verdict(precision, comparison, opponents.serving, findings, rules, opponents.why, best)
    results: dict[str, Any] = {
        "metrics": metrics,
        "in_words": metrics_in_words(metrics, contract),
        "champion": {"version": champion.version, **champion.metrics} if champion else None,
        "comparison": comparison,
        "best": best,
        "passed_over": dict(opponents.passed_over),
        "checks": [asdict(finding) for finding in findings],
        "drift": feature_psi(test, names, champions) if champions else None,
        "gate": {**gate, "notes": _notes(findings, opponents)},
    }
    print(gate["reason"], results["in_words"], sep="\n", flush=True)
    return Evaluation(rows, bundle, scores, champion, reference, results)


def _explains(bundle: ModelBundle) -> CheckFinding:
    """Whether the model gives reasons: whoever promotes one that does not should know."""
    if bundle.explains:
        return CheckFinding(REASONS, PASSED, None, PASSED_TEXTS[REASONS])
    text = f"the model gives no reasons for its decisions: {bundle.scorer_reason}"
    if bundle.requirements:
        text += f"; every server needs {', '.join(bundle.requirements)}"
    return CheckFinding(REASONS, WARNING, None, text)


def _notes(findings: Sequence[CheckFinding], opponents: Opponents) -> list[str]:
    notes = [finding.says for finding in findings if finding.check == REASONS and finding.status == WARNING]
    notes += [
        f"the challenger was not compared with {version}, which served before: {why}"
        for version, why in opponents.passed_over.items()
    ]
    return [note[0].upper() + note[1:] for note in notes]
