"""The chosen threshold is the cheapest there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_sets import CONTRACT

from pipeline.threshold import cheapest, expected_cost
from processing.errors import BadInput

row = st.tuples(st.integers(0, 1), st.integers(0, 20).map(float), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
samples = st.lists(row, min_size=1, max_size=40)


def arrays(rows):
    y, amount, score = zip(*rows, strict=True)
    return np.array(y), np.array(amount), np.array(score)


@given(samples)
def test_no_other_threshold_is_cheaper_and_of_equals_it_is_the_highest(rows):
    y, amount, score = arrays(rows)
    choice = cheapest(y, amount, score, CONTRACT)
    tried = [*np.unique(score), np.inf]
    costs = [expected_cost(y, amount, score, threshold, CONTRACT) for threshold in tried]
    assert choice.cost == min(costs)
    assert choice.cost == expected_cost(y, amount, score, choice.threshold, CONTRACT)
    highest = tried[max(i for i, cost in enumerate(costs) if cost == min(costs))]
    assert np.array_equal(score >= choice.threshold, score >= highest)
    assert choice.alerts == np.count_nonzero(score >= choice.threshold)


@given(samples, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert cheapest(*arrays(rows), CONTRACT) == cheapest(*arrays(shuffled), CONTRACT)


def test_a_missed_fraud_costs_its_amount_and_a_needless_alert_its_price():
    y, amount, score = np.array([1, 1, 0, 0]), np.array([10.0, 30.0, 7.0, 7.0]), np.array([0.2, 0.9, 0.5, 0.1])
    assert expected_cost(y, amount, score, 0.5, CONTRACT) == 10.0 + 2.0
    assert expected_cost(y, amount, score, 0.0, CONTRACT) == 2 * 2.0
    assert cheapest(y, amount, score, CONTRACT).threshold == 0.2


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="finite"):
        cheapest(np.array([1]), np.array([1.0]), np.array([np.nan]), CONTRACT)
