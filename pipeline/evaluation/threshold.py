"""A model's threshold: the score at which an alert becomes cheaper than letting the transaction pass.

Everywhere, a transaction is flagged if its score is at or above the threshold. The threshold is chosen by expected cost
or, if the number of alerts that can be reviewed is the limit, by a daily alert budget.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.arrays import Floats, Ints
from processing.contract import Contract
from processing.errors import BadInput

MISCALIBRATED = 2.0  # beyond this ratio of predicted to actual frauds, scores are not read as probabilities


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and its cost on the rows it was chosen on, in the currency of the amounts."""

    threshold: float
    cost: float
    cost_of_no_alerts: float
    alerts: int


def choose(
    y: NDArray[Any], amount: Floats, score: Floats, day: Ints, alerts_per_day: int, contract: Contract
) -> tuple[ThresholdChoice, str]:
    """The threshold on these rows, [n] each, and how it was chosen: by budget if that is not 0, else by cost.

    By cost, `least_risk` is the more stable way, but it needs scores that can be read as probabilities: their sum must
    match the number of frauds within a factor of 2. Otherwise `cheapest` chooses.
    """
    if not alerts_per_day:
        if 1 / MISCALIBRATED <= score.sum() / max(1, np.count_nonzero(y)) <= MISCALIBRATED:
            return least_risk(
                y, amount, score, contract
            ), "lowest expected cost on the validation rows, by their scores"
        return cheapest(y, amount, score, contract), "lowest cost on the validation rows, by their labels"
    choice = within_budget(y, amount, score, len(np.unique(day)), alerts_per_day, contract)
    return choice, f"at most {alerts_per_day} alerts a day on the validation rows"


def parse_budget(text: str) -> int:
    """The daily alert budget, which a training job gets as text; 0 means none. Raises BadInput."""
    if not text.isdecimal():
        raise BadInput(f"alerts_per_day is {text!r}, expected a whole number; 0 chooses the threshold by expected cost")
    return int(text)


def expected_cost(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> float:
    """The cost of the decisions at a threshold, in the currency of the amounts.

    A missed fraud costs `contract.missed_fraud_cost` times its amount, a false positive
    `contract.needless_alert_cost`; a caught fraud costs nothing. `y` is 0 or 1, amounts are in major units and not
    negative: a refund that was fraud loses nothing, see `Dataset.amount`.

    The costs depend on the example, as in A. C. Bahnsen et al., "Cost Sensitive Credit Card Fraud Detection
    using Bayes Minimum Risk", ICMLA 2013.
    """
    alert = score >= threshold
    fraud = y == 1
    missed = amount[fraud & ~alert].sum() * contract.missed_fraud_cost
    return float(missed + np.count_nonzero(alert & ~fraud) * contract.needless_alert_cost)


def costs_of(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> Floats:
    """The cost of the decision on every row, [n]; their sum is the `expected_cost`."""
    alert, fraud = score >= threshold, y == 1
    missed = np.where(fraud & ~alert, amount * contract.missed_fraud_cost, 0.0)
    return np.where(alert & ~fraud, contract.needless_alert_cost, missed)


def least_risk(y: NDArray[Any], amount: Floats, score: Floats, contract: Contract) -> ThresholdChoice:
    """The threshold with the lowest expected cost on these rows, with the scores read as probabilities.

    Labels are ignored. On average a row with score s is worth an alert if s times the cost of missing it exceeds
    (1 - s) times the cost of a false positive. A few large frauds among the rows move the threshold of `cheapest` far;
    all rows together are better evidence than those few. Raises BadInput as `cheapest` does.

    A. C. Bahnsen et al., "Improving Credit Card Fraud Detection with Calibrated Probabilities", SDM 2014.
    """
    _check_scores(score)
    order = np.lexsort((amount, -score))
    falling = score[order]
    saved = np.cumsum(falling * amount[order] * contract.missed_fraud_cost)
    saved -= np.cumsum((1.0 - falling) * contract.needless_alert_cost)
    lasts = np.append(np.flatnonzero(falling[1:] < falling[:-1]), len(falling) - 1)
    best = int(lasts[np.argmax(saved[lasts])])
    threshold = float(falling[best]) if saved[best] > 0.0 else float(np.nextafter(falling[0], np.inf))
    return _choice(y, amount, score, threshold, contract)


def cheapest(y: NDArray[Any], amount: Floats, score: Floats, contract: Contract) -> ThresholdChoice:
    """The threshold that would have cost least on these rows, [n] each; exact, in O(n log n).

    The candidates are all distinct scores and, for no alerts at all, the next number above the highest score. Among
    equal costs it takes the highest threshold, which raises the fewest alerts. Raises BadInput if there are no rows or
    a score is not a number.
    """
    _check_scores(score)
    order = np.lexsort((amount, y, -score))  # a fixed order among equal scores, so that sums always round the same way
    y, amount, score = y[order], amount[order], score[order]
    fraud = y == 1
    total = float(amount[fraud].sum()) * contract.missed_fraud_cost
    caught = np.cumsum(np.where(fraud, amount, 0.0)) * contract.missed_fraud_cost
    false_positives = np.cumsum(~fraud) * contract.needless_alert_cost
    lasts = np.append(np.flatnonzero(score[1:] < score[:-1]), len(score) - 1)  # the last row of every distinct score
    costs = np.append(total, total - caught[lasts] + false_positives[lasts])
    best = int(np.argmin(costs))  # the first among equals: thresholds are in falling order
    if best == 0:
        return ThresholdChoice(float(np.nextafter(score[0], np.inf)), total, total, 0)
    last = int(lasts[best - 1])
    return ThresholdChoice(float(score[last]), float(costs[best]), total, last + 1)


def within_budget(
    y: NDArray[Any], amount: Floats, score: Floats, days: int, alerts_per_day: int, contract: Contract
) -> ThresholdChoice:
    """The lowest threshold with on average at most `alerts_per_day` alerts a day on these rows, which span `days`.

    Rows with equal scores are flagged together, so the budget may not be used up. Raises BadInput as `cheapest` does.
    """
    _check_scores(score)
    falling, budget = -np.sort(-score), alerts_per_day * days
    if budget >= len(falling):
        threshold = float(falling[-1])
    else:  # the lowest score above the first one beyond the budget
        within = falling[falling > falling[budget]]
        threshold = float(within[-1]) if len(within) else float(np.nextafter(falling[0], np.inf))
    return _choice(y, amount, score, threshold, contract)


def _check_scores(score: Floats) -> None:
    if not len(score) or not np.isfinite(score).all():
        raise BadInput("a threshold needs at least one row, and a finite score for every row")


def _choice(y: NDArray[Any], amount: Floats, score: Floats, threshold: float, contract: Contract) -> ThresholdChoice:
    cost, of_none = (expected_cost(y, amount, score, each, contract) for each in (threshold, np.inf))
    return ThresholdChoice(threshold, cost, of_none, int(np.count_nonzero(score >= threshold)))
