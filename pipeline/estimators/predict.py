"""The scores of a fitted model."""

from typing import Any

from processing.arrays import Floats


def scores(model: Any, X: Floats) -> Floats:  # noqa: N803 (scikit-learn's name)
    """The probability of fraud that a fitted classifier gives each row, [n] float64."""
    probabilities: Floats = model.predict_proba(X)[:, 1]
    return probabilities
