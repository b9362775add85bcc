"""Checks of the data and of what a model could learn from it, made before the gate.

A measure of quality cannot tell a broken feature from a hard month: challenger and champion suffer alike on the same
test rows, and a leaked label even helps. So every feature is looked at alone, on the test rows, and held against what
the training rows and the champion's reference (`pipeline.evaluation.reference`) say of it.

A finding is a *failure*, and the model is rejected, where the data is most likely wrong: a feature that has become
constant, that has lost its relation to the label, that alone nearly gives the label away, or whose values cannot be
the same quantity any more; a label rate that says labels are missing or mixed up. A move of its distribution counts
only beyond what chance makes of rows like the test's (`pipeline.evaluation.chance`). What the passing of time can
explain is a *warning*: fraud and customers change, and a new model is the answer to it, so drift alone must not hold
one up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.evaluation.chance import periods_of
from pipeline.evaluation.reference import BINS, CALENDAR, chance_of, counts, psi

# N. Siddiqi, "Credit Risk Scorecards", 2006: below 0.1 nothing moved, from 0.25 on the change is great.
PSI_SMALL, PSI_GREAT = 0.1, 0.25
PSI_BROKEN = 1.0  # about where half of the rows leave the values they had: cents for euros, a default for a value
# Siddiqi calls an information value from 0.3 on strong. Relations of 0.4 were seen to fade within weeks as the kinds of
# fraud changed, with nothing broken; one that is stronger still does not vanish.
INFORMATION_STRONG = 0.5
LOST = 0.25  # of the information that was there, when no more than this is left
SURE = 2.0  # standard errors
# As automated machine learning has it (H2O Driverless AI looks at single features from an AUC of 0.95 on).
AUC_SUSPICIOUS, AUC_LEAK = 0.95, 0.99
FEWEST_FRAUDS = 30  # that say something about a single feature: with fewer, its standard error is itself a guess
EXPECTED_OTHERS = 50  # rows that would differ if a rare value were as frequent as before
LABEL_RATE_WARNING, LABEL_RATE_FAILURE = 1.5, 2.0  # times, up or down
LABEL_RATE_SURE = 3.3  # standard errors: chance alone does this once in 1000

PASSED, WARNING, FAILED = "passed", "warning", "failed"
CONSTANT, RELATION, LEAK, LABELS, DRIFT = (
    "constant feature",
    "lost relation",
    "label leak",
    "label rate",
    "feature drift",
)
REASONS = "reasons for decisions"  # looked at by evaluation, which has the model


@dataclass(frozen=True)
class Finding:
    """What a check says: its status is passed, warning or failed; `feature` is None where it is about all rows."""

    check: str
    status: str
    feature: str | None
    says: str


def check(
    rows: Dataset,
    names: Sequence[str],
    ours: Mapping[str, Any],
    training: Mapping[str, Any],
    champions: Mapping[str, Any] | None,
) -> list[Finding]:
    """What the checks say, failures first; a check without any finding is there once, as passed.

    rows, names: the test rows and the names of their features
    ours: the challenger's reference, made of the same rows
    training: of its training rows {"frauds", "features": {name: `reference.strength`}}
    champions: the champion's reference, if there is one to compare with
    """
    known = [(training, "in training")] + ([(champions, "when the champion was tested")] if champions else [])
    found = [*_constant(ours, known), *_relation(ours, known), *_leak(ours, training, champions)]
    if champions:
        found += [*_labels(ours, champions), *_drift(rows, names, champions)]
    made = {CONSTANT, RELATION, LEAK} | ({LABELS, DRIFT} if champions else set())
    for name in (CONSTANT, RELATION, LEAK, LABELS, DRIFT):
        if name in made and not any(finding.check == name for finding in found):
            found.append(Finding(name, PASSED, None, WELL[name]))
    return sorted(found, key=lambda finding: (FAILED, WARNING, PASSED).index(finding.status))


WELL = {
    CONSTANT: "every feature has more than one value",
    RELATION: "every feature that told much of the label still does",
    LEAK: f"no feature alone reaches an area under the ROC curve of {AUC_SUSPICIOUS}",
    LABELS: f"the share of frauds is within {LABEL_RATE_WARNING:g} times the champion's, up or down, or within chance",
    REASONS: "it says of each decision which features spoke for fraud",
    DRIFT: f"no feature has a PSI of {PSI_GREAT} or more against the champion's reference that is beyond chance",
}


def _constant(ours: Mapping[str, Any], known: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[Finding]:
    for name, one in ours["features"].items():
        if one["spread"] > 0.0:
            continue
        for other, when in known:
            spread = other["features"].get(name, one)["spread"]
            if spread * ours["rows"] >= EXPECTED_OTHERS:
                said = f"{name} has the same value in all test rows; {when} {spread:.0%} of the rows differed"
                yield Finding(CONSTANT, FAILED, name, said)
                break
        else:
            yield Finding(CONSTANT, WARNING, name, f"{name} has the same value in all test rows")


def _relation(ours: Mapping[str, Any], known: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[Finding]:
    for name, one in ours["features"].items():
        for other, when in known:
            if min(ours["frauds"], other["frauds"]) < FEWEST_FRAUDS:
                continue
            before, was_noise = _information(other["features"].get(name, one), other["frauds"])
            now, noise = _information(one, ours["frauds"])
            lost = before - now > SURE * sqrt(was_noise**2 + noise**2)
            if one["spread"] > 0.0 and before >= INFORMATION_STRONG and now <= LOST * before and lost:
                said = (
                    f"{name} tells almost nothing of the label any more: its information value is {max(0.0, now):.2f}, "
                    f"{when} it was {before:.2f}; its values may be those of other transactions"
                )
                yield Finding(RELATION, FAILED, name, said)
                break


def _information(one: Mapping[str, Any], frauds: int) -> tuple[float, float]:
    """An information value less what chance makes of it, and its standard error.

    Times the number of frauds, which are few beside the honest rows, it is about a chi-squared variable with one
    degree of freedom less than there are bins, non-central by its true value.
    """
    few = max(1, frauds)
    true = max(0.0, one["information"] - BINS / few)
    return one["information"] - BINS / few, sqrt(2 * BINS / few**2 + 4 * true / few)


def _leak(
    ours: Mapping[str, Any], training: Mapping[str, Any], champions: Mapping[str, Any] | None
) -> Iterator[Finding]:
    for name in ours["features"]:
        aucs = [
            (other["features"][name]["auc"], where)
            for other, where in ((ours, "test"), (training, "training"))
            if other["frauds"] >= FEWEST_FRAUDS and name in other["features"]
        ]
        auc, where = max(aucs, default=(0.0, ""))
        if auc < AUC_SUSPICIOUS:
            continue
        before = champions["features"].get(name, {}).get("auc") if champions else None
        said = f"{name} alone separates the {where} rows with an area under the ROC curve of {auc:.3f}"
        if before is not None and before < AUC_SUSPICIOUS:
            yield Finding(LEAK, FAILED, name, f"{said}, with the champion it was {before:.3f}: it may hold the label")
        elif auc >= AUC_LEAK:
            yield Finding(LEAK, FAILED, name, f"{said}: it may hold the label")
        else:
            yield Finding(LEAK, WARNING, name, said)


def _labels(ours: Mapping[str, Any], champions: Mapping[str, Any]) -> Iterator[Finding]:
    n, m = ours["rows"], champions["rows"]
    now, before = (ours["frauds"] + 0.5) / (n + 1), (champions["frauds"] + 0.5) / (m + 1)
    factor = max(now / before, before / now)
    pooled = (ours["frauds"] + champions["frauds"]) / (n + m)
    error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if factor >= LABEL_RATE_WARNING and abs(now - before) > LABEL_RATE_SURE * error:
        said = f"{now:.2%} of the test rows are fraud, of the champion's it were {before:.2%}"
        if factor >= LABEL_RATE_FAILURE:
            yield Finding(LABELS, FAILED, None, f"{said}: labels may be missing or mixed up")
        else:
            yield Finding(LABELS, WARNING, None, said)


def _drift(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any]) -> Iterator[Finding]:
    found = {name: moved for name, moved in drift(rows, names, champions).items() if moved >= PSI_GREAT}
    by_chance = _by_chance(rows, list(found), champions)
    for name, moved in found.items():
        if moved <= by_chance.get(name, 0.0):
            continue
        said = f"the distribution of {name} has moved since the champion was tested, by a PSI of {moved:.2f}"
        before, now = _missing(rows, names, champions, name)
        if abs(now - before) >= 0.05:
            said += f"; {now:.0%} of its values are missing, {before:.0%} were"
        yield Finding(DRIFT, FAILED if moved >= PSI_BROKEN else WARNING, name, said)


def _by_chance(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any]) -> dict[str, float]:
    """The PSI that chance reaches for features of rows like these; nothing where the reference cannot say."""
    compared = [name for name in champions["features"] if name not in CALENDAR]
    chance = chance_of(champions, compared, list(rows.entities.values()), periods_of(rows.day)) if names else None
    return dict(zip(compared, chance.limits.tolist(), strict=True)) if chance else {}


def drift(rows: Dataset, names: Sequence[str], reference: Mapping[str, Any]) -> dict[str, float]:
    """The population stability index of every feature against a reference, those of the calendar left out."""
    return {
        name: psi(reference["features"][name], rows.X[:, j])
        for j, name in enumerate(names)
        if name not in CALENDAR and name in reference["features"]
    }


def _missing(rows: Dataset, names: Sequence[str], champions: Mapping[str, Any], name: str) -> tuple[float, float]:
    known = champions["features"][name]
    now = counts(rows.X[:, list(names).index(name)], known["edges"])
    return known["counts"][-1] / sum(known["counts"]), float(now[-1] / now.sum())
