"""The gate: non-inferiority by a paired bootstrap, the floor, the checks; and what it says."""

import numpy as np
import pytest
from run_sets import CONTRACT, rows_table, write_set
from sklearn.metrics import average_precision_score

from pipeline import bootstrap, dataset
from pipeline.bootstrap import Scored, paired_differences, units
from pipeline.checks import FAILED, WARNING, Finding
from pipeline.gate import Rules, compare, verdict
from pipeline.threshold import expected_cost
from processing.errors import BadInput


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return dataset.read(write_set(tmp_path_factory.mktemp("test"), rows_table(days=7, per_day=300)), CONTRACT)


def scored(rows, noise, seed=0, threshold=0.5):
    """A model that knows the label as well as the noise allows; scores have ties."""
    random = np.random.default_rng(seed)
    return Scored(np.round(1 / (1 + np.exp(-(4 * rows.y - 2 + random.normal(0, noise, rows.rows)))), 2), threshold)


def test_every_draw_measures_both_models_on_the_days_it_drew(rows, monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 20)
    one, other = scored(rows, 2), scored(rows, 3, threshold=0.8)
    found = paired_differences(rows, one, other, CONTRACT)
    drawn = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), 20)
    for draw, times in enumerate(drawn):
        places = np.concatenate([np.flatnonzero(rows.day == day) for day in np.repeat(np.unique(rows.day), times)])
        precision = [average_precision_score(rows.y[places], each.score[places]) for each in (one, other)]
        assert found["average_precision"].draws[draw] == pytest.approx(precision[0] - precision[1])
        y, amount = rows.y[places], rows.amount[places]
        cost = [expected_cost(y, amount, each.score[places], each.threshold, CONTRACT) / 7 for each in (one, other)]
        assert found["cost_per_day"].draws[draw] == pytest.approx(cost[0] - cost[1])
    whole = average_precision_score(rows.y, one.score) - average_precision_score(rows.y, other.score)
    assert found["average_precision"].measured == pytest.approx(whole)


def test_a_model_differs_from_itself_by_nothing(rows):
    one = scored(rows, 2)
    for difference in paired_differences(rows, one, one, CONTRACT).values():
        assert difference.measured == 0.0
        assert difference.bounds(0.99) == (0.0, 0.0)


def test_more_confidence_makes_wider_bounds(rows):
    found = paired_differences(rows, scored(rows, 2), scored(rows, 2, seed=1), CONTRACT)["average_precision"]
    (low, high), (lower, higher) = found.bounds(0.8), found.bounds(0.99)
    assert lower < low < high < higher


@pytest.mark.parametrize(("days", "expected"), [(1, 10), (4, 12), (5, 5), (9, 9)])
def test_units_are_days_or_stretches_of_few_days(tmp_path, days, expected):
    rows = dataset.read(write_set(tmp_path, rows_table(days=days, per_day=101)), CONTRACT)
    unit = units(rows)
    assert list(np.unique(unit)) == list(range(expected))
    assert (np.diff(unit) >= 0).all()  # stretches of time
    assert all(len(np.unique(rows.day[unit == i])) == 1 for i in range(expected))
    assert np.ptp(np.bincount(unit)) <= 1 or days >= 4  # of as many rows, as far as days go


def judged(rows, ours, theirs, **rules):
    loss = float(rows.amount[rows.y == 1].sum()) / 7
    return compare(rows, ours, theirs, CONTRACT, loss, Rules(**rules))


def test_a_better_model_is_no_worse_and_a_worse_one_is_not(rows):
    good, bad = scored(rows, 1.5), scored(rows, 4)
    better, worse = judged(rows, good, bad), judged(rows, bad, good)
    assert better["average_precision"]["no_worse"]
    assert better["cost_per_day"]["no_worse"]
    assert not worse["average_precision"]["no_worse"]
    assert not worse["cost_per_day"]["no_worse"]
    assert judged(rows, bad, good, margin=1.0)["average_precision"]["no_worse"]


def test_a_model_that_is_only_dearer_does_not_pass(rows):
    champion = scored(rows, 2)
    dearer = Scored(champion.score, np.inf)  # alerts on nobody
    comparison = judged(rows, dearer, champion)
    assert comparison["average_precision"]["no_worse"]
    said = verdict(0.7, comparison, "v1", [], Rules())
    assert said["verdict"] == "rejected"
    assert "its expected cost a day differs by +" in said["reason"]
    assert "its average precision differs" not in said["reason"]


WARN = Finding("feature drift", WARNING, "amount", "amount has moved")
FAIL = Finding("label leak", FAILED, "amount", "amount may hold the label")


@pytest.mark.parametrize(
    ("precision", "findings", "forced_by", "outcome", "said"),
    [
        (0.4, [], "", "passed", "reaches the floor 0.3"),
        (0.4, [WARN], "", "passed", "reaches the floor 0.3"),
        (0.4, [FAIL, WARN], "", "rejected", "the check for a label leak failed: amount may hold the label"),
        (0.2, [], "", "rejected", "below the floor 0.3"),
        (0.2, [], "ann", "forced", "below the floor 0.3; ann forced it."),
        (0.4, [FAIL], "ann", "forced", "ann forced it."),
        (0.4, [], "ann", "passed", "it is the first model"),
    ],
)
def test_checks_and_floor_decide_without_a_champion(precision, findings, forced_by, outcome, said):
    told = verdict(precision, None, None, findings, Rules(floor=0.3, forced_by=forced_by), "it is the first model")
    assert told["verdict"] == outcome
    assert told["passed"] == (outcome == "passed")
    assert told["forced_by"] == (forced_by if outcome == "forced" else None)
    assert said in told["reason"]
    assert told["reason"].count(". ") == 0  # one sentence
    assert told["reason"].endswith(".")


@pytest.mark.parametrize("wrong", [{"confidence": 0.5}, {"confidence": 1.0}, {"margin": -0.01}, {"floor": 1.1}])
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(BadInput, match="expected"):
        Rules(**wrong)
