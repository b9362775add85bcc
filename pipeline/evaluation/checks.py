"""Checks of the data and of what a model could learn from it, before the gate decides.

A metric of quality cannot tell a broken feature from a hard month: champion and challenger suffer alike on the same
test rows, and a leaked label even helps. So every feature is examined by itself on the test rows, and compared with
the training rows and with the champion's reference (`pipeline.evaluation.model_reference`).

A finding is a *failure*, and the model is rejected, if the data is most likely wrong: a feature has become constant,
has lost its relation to the label, nearly gives the label away, or has values that can no longer be the same quantity;
or the fraud rate suggests that labels are missing or mixed up. A change of its distribution counts only beyond what
chance does to rows like the test's (`pipeline.evaluation.chance`). What the passing of time can explain is a *warning*:
fraud and customers change, and a new model is the answer to that, so drift alone must not hold one up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.evaluation.distance import LARGE_PSI
from pipeline.evaluation.feature_strength import CALENDAR
from pipeline.evaluation.histogram import BINS, bin_counts
from pipeline.evaluation.model_reference import chance_of, feature_psi
from pipeline.evaluation.reference_sample import periods_of

BROKEN_PSI = 1.0  # about where half of the rows leave their former values: cents for euros, a default for a value
# Siddiqi calls an information value of 0.3 or more strong. Relations of 0.4 have been seen to fade within weeks, as the
# kinds of fraud changed, with nothing broken. A stronger one does not vanish.
STRONG_INFORMATION = 0.5
LOST = 0.25  # a relation is lost when no more than this share of its information is left
SIGNIFICANT = 2.0  # standard errors
# As in automated machine learning (H2O Driverless AI examines single features from an AUC of 0.95).
SUSPICIOUS_AUC, LEAK_AUC = 0.95, 0.99
FEWEST_FRAUDS = 30  # needed to judge a single feature: with fewer, its standard error is itself a guess
EXPECTED_OTHERS = 50  # rows that would differ if a rare value were as frequent as before
LABEL_RATE_WARNING, LABEL_RATE_FAILURE = 1.5, 2.0  # factors, up or down
LABEL_RATE_SIGNIFICANT = 3.3  # standard errors; chance alone exceeds it once in 1000

PASSED, WARNING, FAILED = "passed", "warning", "failed"
CONSTANT, RELATION, LEAK, LABELS, DRIFT = (
    "constant feature",
    "lost relation",
    "label leak",
    "label rate",
    "feature drift",
)
REASONS = "reasons for decisions"  # checked by `pipeline.evaluation.evaluation`, which has the model


@dataclass(frozen=True)
class CheckFinding:
    """What a check found: its status is passed, warning or failed; `feature` is None if it concerns all rows."""

    check: str
    status: str
    feature: str | None
    says: str


PASSED_TEXTS = {
    CONSTANT: "every feature has more than one value",
    RELATION: "every feature that told much about the label still does",
    LEAK: f"no single feature reaches an area under the ROC curve of {SUSPICIOUS_AUC}",
    LABELS: f"the fraud rate is within a factor of {LABEL_RATE_WARNING:g} of the champion's, or within chance",
    REASONS: "the model says for each decision which features spoke for fraud",
    DRIFT: f"no feature has a PSI of {LARGE_PSI} or more, beyond chance, against the champion's reference",
}


def run_checks(
    rows: Dataset,
    names: Sequence[str],
    ours: Mapping[str, Any],
    training: Mapping[str, Any],
    champions: Mapping[str, Any] | None,
) -> list[CheckFinding]:
    """The findings, failures first; a check that found nothing appears once, as passed.

    rows, names: the test rows and the names of their features
    ours: the challenger's reference, made from the same rows
    training: its training rows, as {"frauds", "features": {name: `strength`}}
    champions: the champion's reference, if there is one
    """
    known = [(training, "in training")] + ([(champions, "when the champion was tested")] if champions else [])
    findings = [*_constant(ours, known), *_relation(ours, known), *_leak(ours, training, champions)]
    if champions:
        findings += [*_labels(ours, champions), *_drift(rows, names, champions)]
    done = {CONSTANT, RELATION, LEAK} | ({LABELS, DRIFT} if champions else set())
    for name in (CONSTANT, RELATION, LEAK, LABELS, DRIFT):
        if name in done and not any(finding.check == name for finding in findings):
            findings.append(CheckFinding(name, PASSED, None, PASSED_TEXTS[name]))
    return sorted(findings, key=lambda finding: (FAILED, WARNING, PASSED).index(finding.status))


def _constant(ours: Mapping[str, Any], known: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[CheckFinding]:
    for name, one in ours["features"].items():
        if one["spread"] > 0.0:
            continue
        constant = f"{name} has the same value in all test rows"
        for other, when in known:
            spread = other["features"].get(name, one)["spread"]
            if spread * ours["rows"] >= EXPECTED_OTHERS:
                yield CheckFinding(
                    CONSTANT, FAILED, name, f"{constant}; {when}, {spread:.0%} of the rows had another value"
                )
                break
        else:
            yield CheckFinding(CONSTANT, WARNING, name, constant)


def _relation(ours: Mapping[str, Any], known: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[CheckFinding]:
    for name, one in ours["features"].items():
        for other, when in known:
            if min(ours["frauds"], other["frauds"]) < FEWEST_FRAUDS:
                continue
            before, error_before = _information(other["features"].get(name, one), other["frauds"])
            now, error_now = _information(one, ours["frauds"])
            lost = before - now > SIGNIFICANT * sqrt(error_before**2 + error_now**2)
            if one["spread"] > 0.0 and before >= STRONG_INFORMATION and now <= LOST * before and lost:
                text = (
                    f"{name} tells almost nothing about the label any more: its information value is "
                    f"{max(0.0, now):.2f}, down from {before:.2f} {when}; its values may belong to other transactions"
                )
                yield CheckFinding(RELATION, FAILED, name, text)
                break


def _information(one: Mapping[str, Any], frauds: int) -> tuple[float, float]:
    """An information value less what chance adds to it, and its standard error.

    Times the number of frauds, which are few compared with the legitimate rows, it is about a chi-squared variable with
    one degree of freedom less than there are bins, non-central by its true value.
    """
    few = max(1, frauds)
    true = max(0.0, one["information"] - BINS / few)
    return one["information"] - BINS / few, sqrt(2 * BINS / few**2 + 4 * true / few)


def _leak(
    ours: Mapping[str, Any], training: Mapping[str, Any], champions: Mapping[str, Any] | None
) -> Iterator[CheckFinding]:
    for name in ours["features"]:
        aucs = [
            (other["features"][name]["auc"], where)
            for other, where in ((ours, "test"), (training, "training"))
            if other["frauds"] >= FEWEST_FRAUDS and name in other["features"]
        ]
        auc, where = max(aucs, default=(0.0, ""))
        if auc < SUSPICIOUS_AUC:
            continue
        before = champions["features"].get(name, {}).get("auc") if champions else None
        text = f"{name} alone separates frauds in the {where} rows with an area under the ROC curve of {auc:.3f}"
        if before is not None and before < SUSPICIOUS_AUC:
            text += f", up from {before:.3f} when the champion was tested: it may contain the label"
            yield CheckFinding(LEAK, FAILED, name, text)
        elif auc >= LEAK_AUC:
            yield CheckFinding(LEAK, FAILED, name, f"{text}: it may contain the label")
        else:
            yield CheckFinding(LEAK, WARNING, name, text)


def _labels(ours: Mapping[str, Any], champions: Mapping[str, Any]) -> Iterator[CheckFinding]:
    n, m = ours["rows"], champions["rows"]
    now, before = (ours["frauds"] + 0.5) / (n + 1), (champions["frauds"] + 0.5) / (m + 1)
    factor = max(now / before, before / now)
    pooled = (ours["frauds"] + champions["frauds"]) / (n + m)
    error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if factor >= LABEL_RATE_WARNING and abs(now - before) > LABEL_RATE_SIGNIFICANT * error:
        text = f"{now:.2%} of the test rows are fraud, compared with {before:.2%} when the champion was tested"
        if factor >= LABEL_RATE_FAILURE:
            yield CheckFinding(LABELS, FAILED, None, f"{text}: labels may be missing or mixed up")
        else:
            yield CheckFinding(LABELS, WARNING, None, text)


def _drift(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any]) -> Iterator[CheckFinding]:
    large = {name: psi for name, psi in feature_psi(rows, names, champions).items() if psi >= LARGE_PSI}
    by_chance = _psi_by_chance(rows, list(large), champions)
    for name, psi in large.items():
        if psi <= by_chance.get(name, 0.0):
            continue
        text = f"the distribution of {name} has changed since the champion was tested (PSI {psi:.2f})"
        before, now = _missing(rows, names, champions, name)
        if abs(now - before) >= 0.05:
            text += f"; {now:.0%} of its values are missing, {'up' if now > before else 'down'} from {before:.0%}"
        yield CheckFinding(DRIFT, FAILED if psi >= BROKEN_PSI else WARNING, name, text)


def _psi_by_chance(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any]) -> dict[str, float]:
    """The PSI that chance alone produces for features of rows like these; empty if the reference cannot say."""
    compared = [name for name in champions["features"] if name not in CALENDAR]
    chance = chance_of(champions, compared, list(rows.entities.values()), periods_of(rows.day)) if names else None
    return dict(zip(compared, chance.limits.tolist(), strict=True)) if chance else {}


def _missing(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any], name: str) -> tuple[float, float]:
    """The share of a feature's missing values when the champion was tested, and now."""
    expected = champions["features"][name]
    now = bin_counts(rows.X[:, list(names).index(name)], expected["edges"])
    return expected["counts"][-1] / sum(expected["counts"]), float(now[-1] / now.sum())
