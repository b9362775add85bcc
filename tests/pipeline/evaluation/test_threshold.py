"""The chosen threshold is the cheapest one."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_sets import CONTRACT, rows_table

from pipeline.data import dataset
from pipeline.evaluation.threshold import (
    cheapest,
    choose,
    costs_of,
    expected_cost,
    least_risk,
    parse_budget,
    within_budget,
)
from processing.errors import BadInput

row = st.tuples(st.integers(0, 1), st.integers(0, 20).map(float), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
samples = st.lists(row, min_size=1, max_size=40)


def arrays(rows):
    y, amount, score = zip(*rows, strict=True)
    return np.array(y), np.array(amount), np.array(score)


@given(samples)
def test_the_highest_of_the_cheapest_thresholds_is_chosen(rows):
    y, amount, score = arrays(rows)
    choice = cheapest(y, amount, score, CONTRACT)
    candidates = [*np.unique(score), np.inf]
    costs = [expected_cost(y, amount, score, threshold, CONTRACT) for threshold in candidates]
    assert choice.cost == min(costs)
    assert choice.cost == expected_cost(y, amount, score, choice.threshold, CONTRACT)
    highest = candidates[max(i for i, cost in enumerate(costs) if cost == min(costs))]
    assert np.array_equal(score >= choice.threshold, score >= highest)
    assert choice.alerts == np.count_nonzero(score >= choice.threshold)


@given(samples, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert cheapest(*arrays(rows), CONTRACT) == cheapest(*arrays(shuffled), CONTRACT)


@given(samples)
def test_no_other_threshold_has_a_lower_expected_cost_according_to_the_scores(rows):
    y, amount, score = arrays(rows)

    def risk(threshold):
        alert = score >= threshold
        return (score * amount)[~alert].sum() + (2.0 * (1 - score))[alert].sum()

    choice = least_risk(y, amount, score, CONTRACT)
    assert risk(choice.threshold) <= min(risk(each) for each in [*np.unique(score), np.inf]) + 1e-9
    assert choice.threshold == least_risk(1 - y, amount, score, CONTRACT).threshold  # labels are ignored
    assert choice.cost == expected_cost(y, amount, score, choice.threshold, CONTRACT)


def test_a_missed_fraud_costs_its_amount_and_a_false_positive_a_fixed_price():
    y, amount, score = np.array([1, 1, 0, 0]), np.array([10.0, 30.0, 7.0, 7.0]), np.array([0.2, 0.9, 0.5, 0.1])
    assert expected_cost(y, amount, score, 0.5, CONTRACT) == 10.0 + 2.0
    assert expected_cost(y, amount, score, 0.0, CONTRACT) == 2 * 2.0
    assert cheapest(y, amount, score, CONTRACT).threshold == 0.2


@given(samples, st.integers(1, 5), st.integers(1, 3))
def test_the_chosen_threshold_is_the_lowest_that_stays_within_the_budget(rows, days, alerts_per_day):
    y, amount, score = arrays(rows)
    choice = within_budget(y, amount, score, days, alerts_per_day, CONTRACT)
    alerts = score >= choice.threshold
    assert choice.alerts == np.count_nonzero(alerts) <= days * alerts_per_day
    assert choice.cost == expected_cost(y, amount, score, choice.threshold, CONTRACT)
    if not alerts.all():
        assert np.count_nonzero(score >= score[~alerts].max()) > days * alerts_per_day


@given(samples, st.sampled_from([0.05, 0.25, 0.5, 2.0]))
def test_the_costs_of_the_rows_add_up_to_the_expected_cost(rows, threshold):
    y, amount, score = arrays(rows)
    total = expected_cost(y, amount, score, threshold, CONTRACT)
    assert costs_of(y, amount, score, threshold, CONTRACT).sum() == pytest.approx(total)


def test_the_choice_states_its_method():
    y, amount, score, day = (
        np.array([1, 0, 1]),
        np.array([9.0, 9.0, 1.0]),
        np.array([0.9, 0.8, 0.7]),
        np.array([1, 1, 2]),
    )
    by_scores, method = choose(y, amount, score, day, 0, CONTRACT)
    assert by_scores == least_risk(y, amount, score, CONTRACT)
    assert method == "lowest expected cost on the validation rows, by their scores"
    by_labels, method = choose(y, amount, score / 3, day, 0, CONTRACT)  # not probabilities: they predict too few frauds
    assert by_labels == cheapest(y, amount, score / 3, CONTRACT)
    assert method == "lowest cost on the validation rows, by their labels"
    by_budget, method = choose(y, amount, score, day, 1, CONTRACT)
    assert (by_budget.alerts, method) == (2, "at most 1 alerts a day on the validation rows")
    with pytest.raises(BadInput, match="whole number"):
        parse_budget("-3")


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(BadInput, match="finite"):
        cheapest(np.array([1]), np.array([1.0]), np.array([np.nan]), CONTRACT)


def test_a_missed_fraud_that_is_a_refund_loses_nothing_and_gains_nothing():
    table = rows_table(days=10)
    minor = table["amount_minor"].to_numpy() * np.where(np.arange(len(table)) % 2, 1, -1)
    refunds = table.set_column(table.schema.get_field_index("amount_minor"), "amount_minor", pa.array(minor))
    rows, lost = dataset.of_table(refunds, CONTRACT, "the rows"), np.maximum(minor, 0) / 100
    assert rows.amount.tolist() == lost.tolist()
    costs = [expected_cost(rows.y, rows.amount, np.zeros(len(lost)), each, CONTRACT) for each in (0.0, 1.0)]
    assert costs == [2.0 * np.count_nonzero(rows.y == 0), pytest.approx(lost[rows.y == 1].sum())]
