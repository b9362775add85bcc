"""The metrics equal literal implementations of their definitions."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from run_sets import CONTRACT, rows_table, write_set

from pipeline.data import dataset
from pipeline.evaluation.model_metrics import at_threshold, card_precision, measure_model, recall_at_budget

row = st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(3, 5), st.sampled_from("abcdef"))
samples = st.lists(row, min_size=1, max_size=40)


def arrays(rows):
    y, amount, day, cards = zip(*sorted(rows, key=lambda row: row[2]), strict=True)
    score = np.random.default_rng(len(rows)).permutation(len(rows)) / len(rows)  # no ties, so there is one right answer
    return np.array(y), np.array(amount, float), score, np.array(day), np.array(cards)


def handbook_card_precision(y, score, day, cards, k):
    blocked, shares = set(), []
    for today in sorted(set(day)):
        best, fraud = {}, set()
        for i in range(len(y)):
            if day[i] == today and cards[i] not in blocked:
                best[cards[i]] = max(best.get(cards[i], -1.0), score[i])
                if y[i]:
                    fraud.add(cards[i])
        checked = sorted(best, key=best.get, reverse=True)[:k]
        shares.append(len(fraud & set(checked)) / k)
        blocked |= fraud & set(checked)
    return np.mean(shares)


@settings(max_examples=200)
@given(samples, st.integers(1, 5))
def test_card_precision_follows_the_handbooks_definition(rows, k):
    y, _, score, day, cards = arrays(rows)
    assert card_precision(y, score, day, cards, k) == handbook_card_precision(y, score, day, cards, k)


@given(samples, st.integers(1, 5))
def test_card_precision_without_cards_is_the_daily_precision_of_transactions(rows, k):
    y, _, score, day, _ = arrays(rows)
    by_day = [y[day == d][np.argsort(-score[day == d])][:k].sum() / k for d in np.unique(day)]
    assert card_precision(y, score, day, None, k) == np.mean(by_day)


@given(samples, st.integers(1, 5))
def test_recall_grows_with_the_budget_and_reaches_one(rows, k):
    y, amount, score, day, _ = arrays(rows)
    few, more = (recall_at_budget(y, amount, score, day, budget) for budget in (k, k + 1))
    assert few[0] <= more[0]
    assert few[1] <= more[1]
    everything = recall_at_budget(y, amount, score, day, len(y))
    assert everything == ((1.0, 1.0) if y.any() else (0.0, 0.0))


def test_the_figures_at_a_threshold_match_a_count_by_hand():
    y = np.array([1, 0, 0, 0, 1, 0])
    amount = np.array([30.0, 5.0, 5.0, 5.0, 10.0, 5.0])
    score = np.array([0.9, 0.9, 0.8, 0.8, 0.1, 0.1])
    day = np.array([1, 1, 1, 1, 2, 2])
    cards = np.array(["a", "a", "b", "b", "c", "b"])
    assert at_threshold(y, amount, score, day, cards, 0.8) == {
        "alerts_per_day": 2.0,
        "frauds_in_100_alerts": 25.0,
        "recall": 0.5,
        "value_recall": 0.75,
        "honest_disturbed_per_day": 0.5,  # b on day 1; a did have a fraud that day
    }
    assert at_threshold(y, amount, score, day, None, 0.8)["honest_disturbed_per_day"] == 1.5


def test_a_perfect_model_has_perfect_metrics_and_they_are_json(tmp_path):
    rows = dataset.read(write_set(tmp_path, rows_table()), CONTRACT)
    metrics = measure_model(rows, rows.y.astype(float), 0.5, CONTRACT)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["average_precision"] == metrics["roc_auc"] == metrics["recall"] == 1.0
    assert metrics["cost"] == 0.0 < metrics["cost_of_no_alerts"]
    assert metrics["frauds_in_100_alerts"] == 100.0
