"""The threshold of a model: the score from which on an alert is cheaper than letting the transaction pass.

A transaction is called fraud if its score is the threshold or above, here and everywhere. It is chosen by expected
cost, or, where the number of alerts that can be looked into is what counts, by an alert budget a day.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats
from processing.contract import Contract
from processing.errors import BadInput

FAR_OFF = 2.0  # the ratio of predicted to observed frauds from which on scores are no probabilities


@dataclass(frozen=True)
class Choice:
    """A threshold, and what it costs on the rows it was chosen on, in the currency of the amounts."""

    threshold: float
    cost: float
    cost_of_no_alerts: float
    alerts: int


def choose(
    y: NDArray[Any], amount: Floats, score: Floats, day: NDArray[np.int64], alerts_per_day: int, contract: Contract
) -> tuple[Choice, str]:
    """The threshold on these rows, [n] each, and how it was chosen: by cost, or, if it is not 0, by the budget.

    By cost, `least_risk` is the steadier of two ways, as long as scores can be read as probabilities: those of the
    rows must add up to the frauds among them, within a factor of 2. Otherwise it is `cheapest`.
    """
    if not alerts_per_day:
        if 1 / FAR_OFF <= score.sum() / max(1, np.count_nonzero(y)) <= FAR_OFF:
            return least_risk(y, amount, score, contract), "least expected cost on validation rows, by the scores"
        return cheapest(y, amount, score, contract), "least cost on validation rows, by their labels"
    choice = within_budget(y, amount, score, len(np.unique(day)), alerts_per_day, contract)
    return choice, f"at most {alerts_per_day} alerts a day on validation rows"


def budget_of(text: str) -> int:
    """The alert budget a day as a training job gets it; 0 is none. Raises BadInput."""
    if not text.isdecimal():
        raise BadInput(f"alerts_per_day is {text!r}, expected a whole number; 0 chooses the threshold by expected cost")
    return int(text)


def expected_cost(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> float:
    """What the decisions at a threshold cost, in the currency of the amounts.

    A missed fraud costs `contract.missed_fraud_cost` times its amount, an alert on an honest transaction
    `contract.needless_alert_cost`; a caught fraud costs nothing. `y` is 0 or 1, amounts are in major units.

    The costs depend on the example, as in A. C. Bahnsen et al., "Cost Sensitive Credit Card Fraud Detection
    using Bayes Minimum Risk", ICMLA 2013.
    """
    alert = score >= threshold
    fraud = y == 1
    missed = amount[fraud & ~alert].sum() * contract.missed_fraud_cost
    return float(missed + np.count_nonzero(alert & ~fraud) * contract.needless_alert_cost)


def costs_of(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> Floats:
    """What the decision on every row costs, [n]; their sum is the `expected_cost`."""
    alert, fraud = score >= threshold, y == 1
    missed = np.where(fraud & ~alert, amount * contract.missed_fraud_cost, 0.0)
    return np.where(alert & ~fraud, contract.needless_alert_cost, missed)


def least_risk(y: NDArray[Any], amount: Floats, score: Floats, contract: Contract) -> Choice:
    """The threshold with the least cost on these rows that is expected by the scores, read as probabilities.

    A row's label is not looked at: with a score of s it is worth an alert, on average, if s times the cost of missing
    it is above (1 - s) times that of a needless alert. A few great frauds among the rows move the threshold of
    `cheapest` far; all rows together say more than those few. Raises BadInput as `cheapest` does.

    A. C. Bahnsen et al., "Improving Credit Card Fraud Detection with Calibrated Probabilities", SDM 2014.
    """
    _check(score)
    order = np.lexsort((amount, -score))
    falling = score[order]
    saved = np.cumsum(falling * amount[order] * contract.missed_fraud_cost)
    saved -= np.cumsum((1.0 - falling) * contract.needless_alert_cost)
    lasts = np.append(np.flatnonzero(falling[1:] < falling[:-1]), len(falling) - 1)
    best = int(lasts[np.argmax(saved[lasts])])
    threshold = float(falling[best]) if saved[best] > 0.0 else float(np.nextafter(falling[0], np.inf))
    return _chosen(y, amount, score, threshold, contract)


def cheapest(y: NDArray[Any], amount: Floats, score: Floats, contract: Contract) -> Choice:
    """The threshold that would have cost least on these rows, [n] each; exact, in O(n log n).

    Tried are all distinct scores and, for no alerts at all, the number next above the highest score. Of several
    that cost the same the highest is taken: it makes the fewest alerts. Raises BadInput without rows or when a
    score is not a number.
    """
    _check(score)
    order = np.lexsort((amount, y, -score))  # equal scores in an order of their own: sums round the same way
    y, amount, score = y[order], amount[order], score[order]
    fraud = y == 1
    total = float(amount[fraud].sum()) * contract.missed_fraud_cost
    caught = np.cumsum(np.where(fraud, amount, 0.0)) * contract.missed_fraud_cost
    needless = np.cumsum(~fraud) * contract.needless_alert_cost
    lasts = np.append(np.flatnonzero(score[1:] < score[:-1]), len(score) - 1)  # last row of every distinct score
    costs = np.append(total, total - caught[lasts] + needless[lasts])
    best = int(np.argmin(costs))  # the first of equal ones, and they come with falling thresholds
    if best == 0:
        return Choice(float(np.nextafter(score[0], np.inf)), total, total, 0)
    last = int(lasts[best - 1])
    return Choice(float(score[last]), float(costs[best]), total, last + 1)


def within_budget(
    y: NDArray[Any], amount: Floats, score: Floats, days: int, alerts_per_day: int, contract: Contract
) -> Choice:
    """The lowest threshold that makes at most `alerts_per_day` alerts a day on these rows of so many days, on average.

    Equal scores are all alerts or none is, so that the budget may not be used up. Raises BadInput as `cheapest` does.
    """
    _check(score)
    falling, budget = -np.sort(-score), alerts_per_day * days
    if budget >= len(falling):
        threshold = float(falling[-1])
    else:  # the lowest score that is above the first one beyond the budget
        within = falling[falling > falling[budget]]
        threshold = float(within[-1]) if len(within) else float(np.nextafter(falling[0], np.inf))
    return _chosen(y, amount, score, threshold, contract)


def _check(score: Floats) -> None:
    if not len(score) or not np.isfinite(score).all():
        raise BadInput("a threshold needs at least one row, and a finite score for every row")


def _chosen(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> Choice:
    cost, of_none = (expected_cost(y, amount, score, each, contract) for each in (threshold, np.inf))
    return Choice(threshold, cost, of_none, int(np.count_nonzero(score >= threshold)))
