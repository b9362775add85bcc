"""The gate: decides whether a challenger may serve.

A challenger must pass the checks (`pipeline.evaluation.checks`), reach the floor in average precision, and be no worse
than the champion on the same rows (`pipeline.evaluation.model_comparison`). Without a margin, an equally good one
would be rejected half of the time, and models would rarely be renewed. It need not be better.

Compared with the champion alone, each model could lose a margin, and quality would slip by one margin per run. So in
each measure the challenger must also be no worse than the best of the versions that served in the last months, by the
same margin, which bounds the total loss by one margin. The best is chosen by its figures on these rows, so its lead is
partly luck (the winner's curse), and the test errs towards rejecting. It does not err the other way: the challenger
must be no worse than the champion and no worse than the best, and a claim made of several, each tested at a level, has
that level (R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", 1982).

If the champion cannot be measured on these rows, the challenger cannot be compared, and waits for a person's approval.
The first model has no champion; the floor and the checks decide.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.checks import FAILED, CheckFinding
from pipeline.evaluation.gate_rules import GateRules
from pipeline.evaluation.model_comparison import COMPARED, in_words
from pipeline.registry.versions import WAITING

PASSED, REJECTED, FORCED = "passed", "rejected", "forced"
APPROVAL = "to let it serve, run `fraudline models promote VERSION` or, in AWS, approve its model package"


def verdict(
    average_precision: float,
    comparison: Mapping[str, Any] | None,
    champion: str | None,
    findings: Sequence[CheckFinding],
    rules: GateRules,
    why_none: str = "",
    best: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The gate's decision; JSON-ready.

    {"verdict": passed, rejected, waiting or forced, "passed": bool, "forced_by": name or None, "average_precision",
    "floor", "reason": one sentence}. `comparison` and `best` come from `compare_models` and `compare_with_best`.
    Without a comparison, which `why_none` explains, the model waits for approval or, without a `champion`, is the
    first.
    """
    failed = [finding for finding in findings if finding.status == FAILED]
    reaches = average_precision >= rules.floor
    worse, worse_than_best = _maybe_worse(comparison), _maybe_worse(best)
    waiting = champion is not None and comparison is None
    passed = reaches and not (failed or worse or worse_than_best or waiting)
    reached = f"average precision {average_precision:.4f} reaches the floor {rules.floor:g}"
    uncertain = f"at {rules.confidence:.0%} confidence it may be worse, by more than the margin, than"
    outcome = PASSED if passed else REJECTED
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        why = f"the check for a {failed[0].check} failed{more}: {failed[0].says}"
    elif not reaches:
        why = f"average precision {average_precision:.4f} is below the floor {rules.floor:g}"
    elif worse:
        why = f"{uncertain} the champion {champion}: {' and '.join(worse)}"
    elif worse_than_best:
        why = f"{uncertain} the best model of the last {rules.lookback_days} days: {' and '.join(worse_than_best)}"
    elif waiting:
        outcome = WAITING
        why = f"{reached}, but it could not be compared with the champion {champion}: {why_none}; {APPROVAL}"
    elif comparison:
        figures = " and ".join(in_words(name, comparison[name]) for name in COMPARED)
        why = f"{reached}, and at {rules.confidence:.0%} confidence it is no worse than the champion {champion}: "
        why += figures
        why += f"; it is also no worse than the best model of the last {rules.lookback_days} days" if best else ""
    else:
        why = f"{reached}, and there is no champion to compare with: {why_none}"
    forced = bool(rules.forced_by) and not passed
    subject = {PASSED: "The model passed", REJECTED: "The model was rejected", WAITING: "The model waits for approval"}
    return {
        "verdict": FORCED if forced else outcome,
        "passed": passed,
        "forced_by": rules.forced_by if forced else None,
        "average_precision": average_precision,
        "floor": rules.floor,
        "reason": f"{subject[outcome]}: {why}" + (f"; {rules.forced_by} forced it" if forced else "") + ".",
    }


def _maybe_worse(compared: Mapping[str, Any] | None) -> list[str]:
    """The measures in which a comparison does not show that the challenger is no worse, in words."""
    if compared is None:
        return []
    return [
        in_words(name, compared[name])
        + (f" against {compared[name]['version']}" if "version" in compared[name] else "")
        for name in COMPARED
        if not compared[name]["no_worse"]
    ]
