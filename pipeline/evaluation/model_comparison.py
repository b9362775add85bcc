"""Compares a challenger with other models on the same rows, in average precision and in expected cost per day.

"No worse" is a test of non-inferiority: with the stated confidence (one-sided, by the paired bootstrap of
`pipeline.evaluation.bootstrap`), the average precision is not below the other model's, nor the cost above it, by more
than a margin. The margin is a share of what there is to win: of an average precision of 1, and of the loss without any
alerts (like the savings of A. C. Bahnsen et al., "Example-Dependent Cost-Sensitive Decision Trees", 2015).
Non-inferiority by a confidence bound: G. Piaggio et al., "Reporting of Noninferiority and Equivalence Randomized
Trials", JAMA 2012.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.evaluation.bootstrap import DRAWS, ModelScores, paired_differences, units
from pipeline.evaluation.gate_rules import GateRules
from processing.contract import Contract

COMPARED = ("average_precision", "cost_per_day")


def compare_models(
    rows: Dataset,
    challenger: ModelScores,
    other: ModelScores,
    contract: Contract,
    loss_per_day: float,
    rules: GateRules,
) -> dict[str, Any]:
    """The challenger and another model on the same rows; JSON-ready.

    {"average_precision", "cost_per_day": {"difference" (challenger minus the other), "low", "high" (one-sided bounds),
    "margin", "no_worse"}, "confidence", "units" (drawn by the bootstrap), "draws"}. `loss_per_day` is the cost without
    any alerts.
    """
    differences = paired_differences(rows, challenger, other, contract)
    compared: dict[str, Any] = {}
    for name, sign, scale in (("average_precision", 1.0, 1.0), ("cost_per_day", -1.0, loss_per_day)):
        low, high = differences[name].bounds(rules.confidence)
        margin = float(rules.margin * scale)
        worst = low if sign > 0 else -high
        compared[name] = {
            "difference": differences[name].measured,
            "low": low,
            "high": high,
            "margin": margin,
            "no_worse": worst >= -margin,
        }
    return {**compared, "confidence": rules.confidence, "units": int(units(rows).max()) + 1, "draws": DRAWS}


def compare_with_best(
    rows: Dataset,
    challenger: ModelScores,
    versions: Mapping[str, tuple[ModelScores, Mapping[str, Any]]],
    contract: Contract,
    loss_per_day: float,
    rules: GateRules,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """The challenger and, in each measure, the best of several versions on the same rows; JSON-ready, None without any.

    `versions`: each version's scores and metrics on these rows. `known`: results of `compare_models` for these rows by
    version, whose bootstrap need not be drawn again. Returns {"average_precision", "cost_per_day": as of
    `compare_models`, and "version"; "lookback_days"}.
    """
    if not versions:
        return None
    best = {
        "average_precision": max(versions, key=lambda name: versions[name][1]["average_precision"]),
        "cost_per_day": min(versions, key=lambda name: versions[name][1]["cost"]),
    }
    compared = {
        name: known[name]
        if known and name in known
        else compare_models(rows, challenger, versions[name][0], contract, loss_per_day, rules)
        for name in {*best.values()}
    }
    result = {measure: {"version": name, **compared[name][measure]} for measure, name in best.items()}
    return {**result, "lookback_days": rules.lookback_days}


def in_words(measure: str, compared: Mapping[str, Any]) -> str:
    """A compared measure in words: the difference, its bound on the worse side, and the margin."""
    if measure == "average_precision":
        return (
            f"average precision {compared['difference']:+.4f} "
            f"(lower bound {compared['low']:+.4f}, margin {-compared['margin']:+.4f})"
        )
    return (
        f"expected cost per day {compared['difference']:+.2f} "
        f"(upper bound {compared['high']:+.2f}, margin {compared['margin']:+.2f})"
    )
