"""The threshold of a model: the score from which on an alert is cheaper than letting the transaction pass.

A transaction is called fraud if its score is the threshold or above, here and everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from processing.contract import Contract
from processing.errors import BadInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """A threshold, and what it costs on the rows it was chosen on, in the currency of the amounts."""

    threshold: float
    cost: float
    cost_of_no_alerts: float
    alerts: int


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


def cheapest(y: NDArray[Any], amount: Floats, score: Floats, contract: Contract) -> Choice:
    """The threshold with the least `expected_cost` on these rows, [n] each; exact, in O(n log n).

    Tried are all distinct scores and, for no alerts at all, the number next above the highest score. Of several
    that cost the same the highest is taken: it makes the fewest alerts. Raises BadInput without rows or when a
    score is not a number.
    """
    if not len(score) or not np.isfinite(score).all():
        raise BadInput("a threshold needs at least one row, and a finite score for every row")
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
