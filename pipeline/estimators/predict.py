"""What a fitted model says of rows."""

from typing import Any

from processing.arrays import Floats


def scores(model: Any, X: Floats) -> Floats:  # noqa: N803 (scikit-learn's name)
    """The scores a fitted classifier gives, [n] float64: the probability of fraud."""
    probabilities: Floats = model.predict_proba(X)[:, 1]
    return probabilities
