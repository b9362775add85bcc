"""The gate: non-inferiority by a paired bootstrap, the floor, the checks, and the reason it states."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_sets import CONTRACT, rows_table, write_set
from sklearn.metrics import average_precision_score

from pipeline.data import dataset
from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import ModelScores, paired_differences, units
from pipeline.evaluation.checks import FAILED, WARNING, CheckFinding
from pipeline.evaluation.gate import verdict
from pipeline.evaluation.gate_rules import GateRules
from pipeline.evaluation.model_comparison import compare_models, compare_with_best
from pipeline.evaluation.threshold import expected_cost
from processing.errors import BadInput


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return dataset.read(write_set(tmp_path_factory.mktemp("test"), rows_table(days=7, per_day=300)), CONTRACT)


def scored(rows, noise, seed=0, threshold=0.5):
    """A model whose scores follow the label, with noise and with ties."""
    random = np.random.default_rng(seed)
    return ModelScores(np.round(1 / (1 + np.exp(-(4 * rows.y - 2 + random.normal(0, noise, rows.rows)))), 2), threshold)


def test_every_draw_measures_both_models_on_the_days_drawn(rows, monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 20)
    one, other = scored(rows, 2), scored(rows, 3, threshold=0.8)
    differences = paired_differences(rows, one, other, CONTRACT)
    day_counts = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), 20)
    for draw, times in enumerate(day_counts):
        row_numbers = np.concatenate([np.flatnonzero(rows.day == day) for day in np.repeat(np.unique(rows.day), times)])
        precision = [average_precision_score(rows.y[row_numbers], each.score[row_numbers]) for each in (one, other)]
        assert differences["average_precision"].draws[draw] == pytest.approx(precision[0] - precision[1])
        y, amount = rows.y[row_numbers], rows.amount[row_numbers]
        cost = [
            expected_cost(y, amount, each.score[row_numbers], each.threshold, CONTRACT) / 7 for each in (one, other)
        ]
        assert differences["cost_per_day"].draws[draw] == pytest.approx(cost[0] - cost[1])
    whole = average_precision_score(rows.y, one.score) - average_precision_score(rows.y, other.score)
    assert differences["average_precision"].measured == pytest.approx(whole)


def test_a_model_does_not_differ_from_itself(rows):
    one = scored(rows, 2)
    for difference in paired_differences(rows, one, one, CONTRACT).values():
        assert difference.measured == 0.0
        assert difference.bounds(0.99) == (0.0, 0.0)


def test_higher_confidence_gives_wider_bounds(rows):
    difference = paired_differences(rows, scored(rows, 2), scored(rows, 2, seed=1), CONTRACT)["average_precision"]
    (low, high), (lower, higher) = difference.bounds(0.8), difference.bounds(0.99)
    assert lower < low < high < higher


@pytest.mark.parametrize(("days", "expected"), [(1, 10), (4, 12), (5, 5), (9, 9)])
def test_units_are_days_or_parts_of_days_if_there_are_few_days(tmp_path, days, expected):
    rows = dataset.read(write_set(tmp_path, rows_table(days=days, per_day=101)), CONTRACT)
    unit = units(rows)
    assert list(np.unique(unit)) == list(range(expected))
    assert (np.diff(unit) >= 0).all()  # in order of time
    assert all(len(np.unique(rows.day[unit == i])) == 1 for i in range(expected))
    assert np.ptp(np.bincount(unit)) <= 1 or days >= 4  # equally many rows


def comparison_of(rows, ours, theirs, **rules):
    loss = float(rows.amount[rows.y == 1].sum()) / 7
    return compare_models(rows, ours, theirs, CONTRACT, loss, GateRules(**rules))


def test_only_a_better_model_is_non_inferior(rows):
    good, bad = scored(rows, 1.5), scored(rows, 4)
    better, worse = comparison_of(rows, good, bad), comparison_of(rows, bad, good)
    assert better["average_precision"]["no_worse"]
    assert better["cost_per_day"]["no_worse"]
    assert not worse["average_precision"]["no_worse"]
    assert not worse["cost_per_day"]["no_worse"]
    assert comparison_of(rows, bad, good, margin=1.0)["average_precision"]["no_worse"]


def test_a_model_that_only_costs_more_is_rejected(rows):
    champion = scored(rows, 2)
    costlier = ModelScores(champion.score, np.inf)  # never flags anything
    comparison = comparison_of(rows, costlier, champion)
    assert comparison["average_precision"]["no_worse"]
    decision = verdict(0.7, comparison, "v1", [], GateRules())
    assert decision["verdict"] == "rejected"
    assert "expected cost per day +" in decision["reason"]
    assert "average precision" not in decision["reason"]


WARN = CheckFinding("feature drift", WARNING, "amount", "amount has changed")
FAIL = CheckFinding("label leak", FAILED, "amount", "amount may contain the label")


@pytest.mark.parametrize(
    ("precision", "findings", "forced_by", "outcome", "message"),
    [
        (0.4, [], "", "passed", "reaches the floor 0.3"),
        (0.4, [WARN], "", "passed", "reaches the floor 0.3"),
        (0.4, [FAIL, WARN], "", "rejected", "the check for a label leak failed: amount may contain the label"),
        (0.2, [], "", "rejected", "below the floor 0.3"),
        (0.2, [], "ann", "forced", "below the floor 0.3; ann forced it."),
        (0.4, [FAIL], "ann", "forced", "ann forced it."),
        (0.4, [], "ann", "passed", "it is the first model"),
    ],
)
def test_checks_and_floor_decide_without_a_champion(precision, findings, forced_by, outcome, message):
    decision = verdict(
        precision, None, None, findings, GateRules(floor=0.3, forced_by=forced_by), "it is the first model"
    )
    assert decision["verdict"] == outcome
    assert decision["passed"] == (outcome == "passed")
    assert decision["forced_by"] == (forced_by if outcome == "forced" else None)
    assert message in decision["reason"]
    assert decision["reason"].count(". ") == 0  # one sentence
    assert decision["reason"].endswith(".")


def test_a_model_that_cannot_be_compared_waits_unless_it_fails_otherwise():
    why = "it was trained on other columns"
    decision = verdict(0.4, None, "v1", [], GateRules(), why)
    assert (decision["verdict"], decision["passed"], decision["forced_by"]) == ("waiting", False, None)
    assert "waits for approval" in decision["reason"]
    assert f"could not be compared with the champion v1: {why}" in decision["reason"]
    assert verdict(0.05, None, "v1", [], GateRules(), why)["verdict"] == "rejected"
    assert verdict(0.4, None, "v1", [FAIL], GateRules(), why)["verdict"] == "rejected"
    assert verdict(0.4, None, "v1", [], GateRules(forced_by="ann"), why)["verdict"] == "forced"
    assert verdict(0.4, None, None, [], GateRules(), "it is the first model")["verdict"] == "passed"


def test_each_metric_is_compared_with_the_version_that_is_best_in_it(rows):
    precise, cheap = ModelScores(scored(rows, 1.5).score, np.inf), scored(rows, 2.5)
    with_metrics = {
        name: (one, {"average_precision": average_precision_score(rows.y, one.score), "cost": cost(rows, one)})
        for name, one in {"precise": precise, "cheap": cheap}.items()
    }
    best = compare_with_best(rows, scored(rows, 2), with_metrics, CONTRACT, loss_of(rows), GateRules(lookback_days=90))
    assert (best["average_precision"]["version"], best["cost_per_day"]["version"]) == ("precise", "cheap")
    assert best["lookback_days"] == 90
    assert compare_with_best(rows, scored(rows, 2), {}, CONTRACT, loss_of(rows), GateRules()) is None


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.floats(0.02, 0.2), st.sampled_from([0.01, 0.03, 0.08]), st.integers(0, 3))
def test_many_small_losses_are_stopped_within_one_margin(step, margin, seed):
    """Each challenger is slightly worse than its predecessor and is compared with every version that served."""
    test, rules = rows_of(), GateRules(margin=margin)
    served, rejected = [scored(test, 1.0, seed)], 0
    for number in range(1, 40):
        challenger = scored(test, 1.0 + number * step, seed)
        models = {str(i): (one, measured(test, one)) for i, one in enumerate(served)}
        best = compare_with_best(test, challenger, models, CONTRACT, loss_of(test), rules)
        champion = compare_models(test, challenger, served[-1], CONTRACT, loss_of(test), rules)
        decision = verdict(0.7, champion, "the champion", [], rules, best=best)
        if decision["passed"]:
            served.append(challenger)
        else:
            rejected += 1
            assert decision["verdict"] == "rejected"
    assert rejected
    precisions = [measured(test, one)["average_precision"] for one in served]
    costs = [measured(test, one)["cost"] / 7 for one in served]
    for later in range(1, len(served)):
        assert precisions[later] >= max(precisions[:later]) - margin
        assert costs[later] <= min(costs[:later]) + margin * loss_of(test)


def test_a_model_worse_than_the_best_earlier_version_is_rejected(rows):
    ours, best = scored(rows, 4), {"v0": (scored(rows, 1.5), measured(rows, scored(rows, 1.5)))}
    compared = compare_with_best(rows, ours, best, CONTRACT, loss_of(rows), GateRules())
    decision = verdict(0.7, comparison_of(rows, ours, ours), "v1", [], GateRules(), best=compared)
    assert decision["verdict"] == "rejected"
    assert "than the best model of the last 180 days: average precision -" in decision["reason"]
    assert verdict(0.7, comparison_of(rows, ours, ours), "v1", [], GateRules())["passed"]


@functools.cache
def rows_of():
    with tempfile.TemporaryDirectory() as folder:
        return dataset.read(write_set(Path(folder), rows_table(days=7, per_day=300)), CONTRACT)


def loss_of(rows):
    return float(rows.amount[rows.y == 1].sum()) / 7


def cost(rows, one):
    return expected_cost(rows.y, rows.amount, one.score, one.threshold, CONTRACT)


def measured(rows, one):
    return {"average_precision": average_precision_score(rows.y, one.score), "cost": cost(rows, one)}


@pytest.mark.parametrize(
    "wrong", [{"confidence": 0.5}, {"confidence": 1.0}, {"margin": -0.01}, {"floor": 1.1}, {"lookback_days": -1}]
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match="expected"):
        GateRules(**wrong)
