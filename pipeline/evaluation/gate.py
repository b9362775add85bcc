"""The gate: whether a challenger may serve.

It must have passed the checks (`pipeline.evaluation.checks`), reach the floor in average precision, and be no worse
than the champion on the same rows. "No worse" is a test of non-inferiority: with the stated confidence (one-sided, by
the paired bootstrap of `pipeline.evaluation.bootstrap`) neither its average precision lies below the champion's nor its
expected cost above the champion's by more than a margin. Without a margin, a challenger that is just as good would be
refused half of the time, and no model would ever be renewed; to be better is not asked for.

Held against the champion alone, each model could lose a margin, and quality would slip away by one margin a run. So in
each measure the challenger must also be no worse than the best of the versions that served in the last months, by the
same margin: what is lost in all that time is bounded by one. The best is chosen by what was measured on these rows, so
its lead is partly luck (the winner's curse), and the test errs towards refusing. The other way it does not err: to be
no worse than the champion and no worse than the best are both asked for, and a claim made of several, each tested at
its level, has that level (R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", 1982).

Where the champion cannot be measured on these rows, nothing can be said of the challenger beside it: it waits for a
person's approval. The first model has no champion, and is judged by floor and checks.

The margin is a share of what there is to win, for both: of an average precision of 1, and of the loss without any
alert (as savings in A. C. Bahnsen et al., "Example-Dependent Cost-Sensitive Decision Trees", 2015). The test of
non-inferiority by a confidence bound: G. Piaggio et al., "Reporting of Noninferiority and Equivalence Randomized
Trials", JAMA 2012.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.definition import defaults
from pipeline.evaluation.bootstrap import DRAWS, Scored, paired_differences, units
from pipeline.evaluation.checks import FAILED, Finding
from pipeline.registry.versions import WAITING
from processing.contract import Contract
from processing.errors import BadInput

PASSED, REJECTED, FORCED = "passed", "rejected", "forced"
APPROVAL = "`fraudline models promote VERSION` (in AWS also the package's approval) lets it serve"


@dataclass(frozen=True)
class Rules:
    """What the gate asks for. Raises BadInput for a value out of range.

    floor: the least average precision that may serve
    confidence: of the statement that the challenger is no worse, above 0.5 and below 1
    margin: by how much it may be worse and still count as no worse, from 0; see this module
    lookback_days: how long ago a version may have served that the challenger is held against; 0 for the champion alone
    forced_by: who wants the model to serve whatever the gate says; empty for nobody
    """

    floor: float = defaults.MIN_AVERAGE_PRECISION
    confidence: float = defaults.CONFIDENCE_LEVEL
    margin: float = defaults.NON_INFERIORITY_MARGIN
    forced_by: str = ""
    lookback_days: int = defaults.LOOKBACK_DAYS

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1.0:
            raise BadInput(f"ConfidenceLevel is {self.confidence:g}, expected above 0.5 and below 1, e.g. 0.95")
        for name, value in (("MinAveragePrecision", self.floor), ("NonInferiorityMargin", self.margin)):
            if not 0.0 <= value <= 1.0:
                raise BadInput(f"{name} is {value:g}, expected 0 to 1")
        if self.lookback_days < 0:
            raise BadInput(f"LookbackDays is {self.lookback_days}, expected 0 or more")


def compare(
    rows: Dataset, challenger: Scored, champion: Scored, contract: Contract, loss_per_day: float, rules: Rules
) -> dict[str, Any]:
    """Challenger and champion on the same rows; JSON-ready.

    {"average_precision", "cost_per_day": {"difference" (challenger minus champion), "low", "high" (one-sided bounds),
    "margin", "no_worse"}, "confidence", "units" (drawn by the bootstrap), "draws"}. `loss_per_day` is what no alerts
    at all would cost.
    """
    found = paired_differences(rows, challenger, champion, contract)
    compared: dict[str, Any] = {}
    for name, sign, scale in (("average_precision", 1.0, 1.0), ("cost_per_day", -1.0, loss_per_day)):
        low, high = found[name].bounds(rules.confidence)
        margin = float(rules.margin * scale)
        worst = low if sign > 0 else -high
        compared[name] = {
            "difference": found[name].measured,
            "low": low,
            "high": high,
            "margin": margin,
            "no_worse": worst >= -margin,
        }
    return {**compared, "confidence": rules.confidence, "units": int(units(rows).max()) + 1, "draws": DRAWS}


def compare_with_best(
    rows: Dataset,
    challenger: Scored,
    opponents: Mapping[str, tuple[Scored, Mapping[str, Any]]],
    contract: Contract,
    loss_per_day: float,
    rules: Rules,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """The challenger and, in each measure, the best of some versions on the same rows; JSON-ready, None without any.

    `opponents`: by version their scores and their metrics on these rows. `known`: by version what `compare` gave of
    these rows already, which is a bootstrap that need not be drawn again. {"average_precision", "cost_per_day": as of
    `compare`, and "version"; "lookback_days"}.
    """
    if not opponents:
        return None
    best = {
        "average_precision": max(opponents, key=lambda name: opponents[name][1]["average_precision"]),
        "cost_per_day": min(opponents, key=lambda name: opponents[name][1]["cost"]),
    }
    compared = {
        name: known[name]
        if known and name in known
        else compare(rows, challenger, opponents[name][0], contract, loss_per_day, rules)
        for name in {*best.values()}
    }
    found = {measure: {"version": name, **compared[name][measure]} for measure, name in best.items()}
    return {**found, "lookback_days": rules.lookback_days}


def verdict(
    average_precision: float,
    comparison: Mapping[str, Any] | None,
    champion: str | None,
    findings: Sequence[Finding],
    rules: Rules,
    why_none: str = "",
    best: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the gate says; JSON-ready.

    {"verdict": passed, rejected, waiting or forced, "passed": bool, "forced_by": name or None, "average_precision",
    "floor", "reason": one sentence}. `comparison` and `best` are of `compare` and `compare_with_best`; without the
    first, which `why_none` explains, the model waits for approval, or, without a `champion`, is the first.
    """
    broken = [finding for finding in findings if finding.status == FAILED]
    reaches = average_precision >= rules.floor
    worse, than_best = _worse(comparison), _worse(best)
    waiting = champion is not None and comparison is None
    passed = reaches and not (broken or worse or than_best or waiting)
    floor = f"its average precision {average_precision:.4f} reaches the floor {rules.floor:g}"
    unsure = f"it cannot be said with {rules.confidence:.0%} confidence that it is no worse than"
    outcome = PASSED if passed else REJECTED
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        why = f"the check for {_a(broken[0].check)} failed{more}: {broken[0].says}"
    elif not reaches:
        why = f"its average precision {average_precision:.4f} is below the floor {rules.floor:g}"
    elif worse:
        why = f"{unsure} the champion {champion}: {' and '.join(worse)}"
    elif than_best:
        why = f"{unsure} the best model of the last {rules.lookback_days} days: {' and '.join(than_best)}"
    elif waiting:
        outcome = WAITING
        why = f"{floor}, but it could not be compared with the champion {champion}: {why_none}; {APPROVAL}"
    elif comparison:
        both = " and ".join(words(name, comparison[name]) for name in NAMES)
        why = f"{floor}, and with {rules.confidence:.0%} confidence it is no worse than the champion {champion}: {both}"
        why += f"; nor is it worse than the best model of the last {rules.lookback_days} days" if best else ""
    else:
        why = f"{floor}, and there is no champion to compare with: {why_none}"
    forced = bool(rules.forced_by) and not passed
    did = {PASSED: "passed", REJECTED: "did not pass", WAITING: "waits for approval"}[outcome]
    return {
        "verdict": FORCED if forced else outcome,
        "passed": passed,
        "forced_by": rules.forced_by if forced else None,
        "average_precision": average_precision,
        "floor": rules.floor,
        "reason": f"The model {did}: {why}" + (f"; {rules.forced_by} forced it" if forced else "") + ".",
    }


def _worse(compared: Mapping[str, Any] | None) -> list[str]:
    """In which measures a comparison does not say that the challenger is no worse, in words."""
    if compared is None:
        return []
    return [_of(compared[name]) + words(name, compared[name]) for name in NAMES if not compared[name]["no_worse"]]


def _of(one: Mapping[str, Any]) -> str:
    return f"beside {one['version']} " if "version" in one else ""


NAMES = ("average_precision", "cost_per_day")


def words(name: str, one: Mapping[str, Any]) -> str:
    """A compared measure in words: the difference, how bad it may be, and how bad it might have been."""
    if name == "average_precision":
        return (
            f"its average precision differs by {one['difference']:+.4f} "
            f"(at least {one['low']:+.4f}, where {-one['margin']:+.4f} is allowed)"
        )
    return (
        f"its expected cost a day differs by {one['difference']:+.2f} "
        f"(at most {one['high']:+.2f}, where {one['margin']:+.2f} is allowed)"
    )


def _a(check: str) -> str:
    return f"a {check}"
