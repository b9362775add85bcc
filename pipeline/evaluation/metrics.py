"""How good a model is: the measures of the field, and the plain numbers a person can act on.

Arrays are [n], one place a transaction: `y` 0 or 1, `score` the higher the more suspicious, `amount` in major
units, `day` whole day numbers. Equal scores are ranked in the order of the rows, which is that of time.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.data.dataset import Dataset
from pipeline.evaluation.calibration import calibration
from pipeline.evaluation.threshold import expected_cost
from processing.arrays import Floats
from processing.contract import Contract

Ints = NDArray[np.int64]


def measure(rows: Dataset, score: Floats, threshold: float, contract: Contract) -> dict[str, float]:
    """Every measure of a model's scores on some rows, by name; JSON-ready.

    average_precision, roc_auc: as scikit-learn defines them
    card_precision_at_k, with k the contract's alerts per day; see `card_precision`
    recall_at_budget, value_recall_at_budget: see `recall_at_budget`
    cost, cost_of_no_alerts: in the currency of the amounts, over all rows; see `expected_cost`
    threshold and what follows from it: see `at_threshold`
    how far scores are probabilities: see `calibration`
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
    """Card precision@k: of the k cards checked on a day, the share that had a fraud; the mean over the days.

    On each day cards are ranked by their highest score. A card found fraudulent among the k of one day is
    blocked, and left out of all later days. A day with fewer than k cards is divided by k all the same.
    Without `cards` every transaction counts as a card of its own: transaction precision@k.

    Source: Y.-A. Le Borgne, W. Siblini, B. Lebichot, G. Bontempi, "Reproducible Machine Learning for Credit Card
    Fraud Detection - Practical Handbook", 2022, chapter 4.4, "Precision top-k metrics".
    """
    codes = np.arange(len(y)) if cards is None else np.unique(cards, return_inverse=True)[1]
    blocked = np.zeros(int(codes.max(initial=-1)) + 1, bool)
    found = []
    for today in np.unique(day):
        rows = np.flatnonzero((day == today) & ~blocked[codes])
        rows = rows[np.argsort(-score[rows], kind="stable")]
        ranked = codes[rows]
        first = np.sort(np.unique(ranked, return_index=True)[1])[:k]  # a card's place is that of its highest score
        checked = ranked[first]
        fraudulent = np.intersect1d(checked, codes[rows[y[rows] == 1]])
        blocked[fraudulent] = True
        found.append(len(fraudulent) / k)
    return float(np.mean(found))


def recall_at_budget(
    y: NDArray[Any], amount: Floats, score: Floats, day: Ints, alerts_per_day: int
) -> tuple[float, float]:
    """Of all frauds, the share by number and the share by value among the highest scores that can be looked into.

    The budget is `alerts_per_day` for every day there are rows of, spent on the highest scores over all days.
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
    frauds_in_100_alerts: of 100 alerts so many are fraud (0 if there are no alerts)
    recall, value_recall: the share of frauds caught, by number and by value
    honest_disturbed_per_day: customers with an alert on a day without any fraud on them; without `cards`, needless
        alerts
    """
    alert, fraud = score >= threshold, y == 1
    days = _days(day)
    disturbed = int(np.count_nonzero(alert & ~fraud))
    if cards is not None:
        card_days = np.unique(cards, return_inverse=True)[1].astype(np.int64) * (day.max() - day.min() + 1)
        card_days += day - day.min()
        disturbed = len(np.setdiff1d(card_days[alert], card_days[fraud]))
    return {
        "alerts_per_day": int(np.count_nonzero(alert)) / days,
        "frauds_in_100_alerts": 100.0 * _share(alert & fraud, alert),
        "recall": _share(alert & fraud, fraud),
        "value_recall": _share_of_value(amount, alert & fraud, fraud),
        "honest_disturbed_per_day": disturbed / days,
    }


def in_words(measured: Mapping[str, Any], contract: Contract) -> str:
    """What a threshold means, in plain numbers: two sentences from what `measure` gives."""
    who = "honest customers" if contract.entities else "honest transactions"
    saved = measured["cost_of_no_alerts"] - measured["cost"]
    return (
        f"At the threshold {measured['threshold']:.4g} there are {measured['alerts_per_day']:,.0f} alerts a day: of "
        f"100 alerts {measured['frauds_in_100_alerts']:.0f} are fraud, {measured['recall']:.0%} of the frauds and "
        f"{measured['value_recall']:.0%} of their value are caught, and {measured['honest_disturbed_per_day']:,.0f} "
        f"{who} are disturbed a day. "
        f"That costs {measured['cost'] / measured['days']:,.0f} a day, {abs(saved) / measured['days']:,.0f} "
        f"{'less' if saved >= 0 else 'more'} than no alerts at all."
    )


def _days(day: Ints) -> int:
    return len(np.unique(day))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(whole)))


def _share_of_value(amount: Floats, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    total = float(amount[whole].sum())
    return float(amount[part].sum()) / total if total else _share(part, whole)
