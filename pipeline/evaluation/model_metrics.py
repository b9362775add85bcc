"""A model's metrics: the field's standard ones, and plain numbers that a person can act on.

Arrays are [n], one element per transaction: `y` is 0 or 1, a higher `score` is more suspicious, `amount` is in major
units, `day` is a whole day number. Equal scores are ranked in the order of the rows, which is the order of time.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.data.dataset import Dataset
from pipeline.evaluation.calibration import calibration
from pipeline.evaluation.threshold import expected_cost
from processing.arrays import Floats, Ints
from processing.contract import Contract


def measure_model(rows: Dataset, score: Floats, threshold: float, contract: Contract) -> dict[str, float]:
    """Every metric of a model's scores on some rows, by name; JSON-ready.

    average_precision, roc_auc: as scikit-learn defines them
    card_precision_at_k, where k is the contract's alerts per day: see `card_precision`
    recall_at_budget, value_recall_at_budget: see `recall_at_budget`
    cost, cost_of_no_alerts: in the currency of the amounts, over all rows; see `expected_cost`
    the threshold and its consequences: see `at_threshold`
    how well the scores are calibrated: see `calibration`
    """
    cards = rows.entities[contract.entities[0].name] if contract.entities else None
    k = contract.alerts_per_day
    frauds, value = recall_at_budget(rows.y, rows.amount, score, rows.day, k)
    return {
        "average_precision": float(average_precision_score(rows.y, score)),
        "roc_auc": float(roc_auc_score(rows.y, score)),
        "k": k,
        "card_precision_at_k": card_precision(rows.y, score, rows.day, cards, k),
        "recall_at_budget": frauds,
        "value_recall_at_budget": value,
        "threshold": threshold,
        "cost": expected_cost(rows.y, rows.amount, score, threshold, contract),
        "cost_of_no_alerts": expected_cost(rows.y, rows.amount, score, np.inf, contract),
        **at_threshold(rows.y, rows.amount, score, rows.day, cards, threshold),
        **calibration(rows.y, score),
        "rows": rows.rows,
        "frauds": rows.frauds,
        "days": _days(rows.day),
    }


def card_precision(y: NDArray[Any], score: Floats, day: Ints, cards: NDArray[Any] | None, k: int) -> float:
    """Card precision@k: the share of the k cards checked on a day that had a fraud, averaged over the days.

    Each day, cards are ranked by their highest score. A card found to be fraudulent among the k of one day is blocked
    and left out of all later days. A day with fewer than k cards is still divided by k. Without `cards`, every
    transaction counts as a card of its own: transaction precision@k.

    Source: Y.-A. Le Borgne, W. Siblini, B. Lebichot, G. Bontempi, "Reproducible Machine Learning for Credit Card
    Fraud Detection - Practical Handbook", 2022, chapter 4.4, "Precision top-k metrics".
    """
    codes = np.arange(len(y)) if cards is None else np.unique(cards, return_inverse=True)[1]
    blocked = np.zeros(int(codes.max(initial=-1)) + 1, bool)
    shares = []
    for today in np.unique(day):
        rows = np.flatnonzero((day == today) & ~blocked[codes])
        rows = rows[np.argsort(-score[rows], kind="stable")]
        ranked = codes[rows]
        first = np.sort(np.unique(ranked, return_index=True)[1])[:k]  # a card ranks where its highest score does
        checked = ranked[first]
        fraudulent = np.intersect1d(checked, codes[rows[y[rows] == 1]])
        blocked[fraudulent] = True
        shares.append(len(fraudulent) / k)
    return float(np.mean(shares))


def recall_at_budget(
    y: NDArray[Any], amount: Floats, score: Floats, day: Ints, alerts_per_day: int
) -> tuple[float, float]:
    """The share of all frauds, by number and by value, among the highest scores that an alert budget covers.

    The budget is `alerts_per_day` times the number of days with rows, spent on the highest scores over all days.
    """
    budget = alerts_per_day * _days(day)
    checked = np.zeros(len(y), bool)
    checked[np.argsort(-score, kind="stable")[:budget]] = True
    fraud = y == 1
    return _share(checked & fraud, fraud), _share_of_value(amount, checked & fraud, fraud)


def at_threshold(
    y: NDArray[Any], amount: Floats, score: Floats, day: Ints, cards: NDArray[Any] | None, threshold: float
) -> dict[str, float]:
    """What a threshold means in plain numbers.

    alerts_per_day
    frauds_in_100_alerts: how many of 100 alerts are fraud (0 if there are no alerts)
    recall, value_recall: the share of frauds caught, by number and by value
    honest_disturbed_per_day: customers with an alert on a day on which they had no fraud; without `cards`, false
        positives
    """
    alert, fraud = score >= threshold, y == 1
    days = _days(day)
    false_alarms = int(np.count_nonzero(alert & ~fraud))
    if cards is not None:
        card_days = np.unique(cards, return_inverse=True)[1].astype(np.int64) * (day.max() - day.min() + 1)
        card_days += day - day.min()
        false_alarms = len(np.setdiff1d(card_days[alert], card_days[fraud]))
    return {
        "alerts_per_day": int(np.count_nonzero(alert)) / days,
        "frauds_in_100_alerts": 100.0 * _share(alert & fraud, alert),
        "recall": _share(alert & fraud, fraud),
        "value_recall": _share_of_value(amount, alert & fraud, fraud),
        "honest_disturbed_per_day": false_alarms / days,
    }


def metrics_in_words(metrics: Mapping[str, Any], contract: Contract) -> str:
    """What a model's threshold means, in plain sentences, from its metrics."""
    disturbed = "legitimate customers a day get" if contract.entities else "legitimate transactions a day cause"
    saved = metrics["cost_of_no_alerts"] - metrics["cost"]
    return (
        f"At the threshold {metrics['threshold']:.4g} the model raises {metrics['alerts_per_day']:,.0f} alerts a day, "
        f"and {metrics['frauds_in_100_alerts']:.0f} of 100 alerts are fraud. It catches {metrics['recall']:.0%} of the "
        f"frauds and {metrics['value_recall']:.0%} of their value; {metrics['honest_disturbed_per_day']:,.0f} "
        f"{disturbed} a false alert. The expected cost is {metrics['cost'] / metrics['days']:,.0f} a day, "
        f"{abs(saved) / metrics['days']:,.0f} {'less' if saved >= 0 else 'more'} than without any alerts."
    )


def _days(day: Ints) -> int:
    return len(np.unique(day))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(whole)))


def _share_of_value(amount: Floats, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    total = float(amount[whole].sum())
    return float(amount[part].sum()) / total if total else _share(part, whole)
