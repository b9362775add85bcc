"""The model: tail-aware bins, then gradient-boosted trees."""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipeline.binner import TailBinner
from processing.errors import BadInput

LIMITS: dict[str, tuple[float, float, str]] = {
    "learning_rate": (1e-6, 1.0, "a number above 0, at most 1"),
    "max_iterations": (1, 100_000, "a whole number from 1"),
    "max_leaf_nodes": (2, 65_536, "a whole number from 2"),
    "l2_regularization": (0.0, 1e12, "a number from 0"),
    "max_features": (1e-6, 1.0, "a number above 0, at most 1"),
    "random_seed": (0, 2**32 - 1, "a whole number from 0"),
}


@dataclass(frozen=True)
class Hyperparameters:
    """What can be set about the training. The defaults were chosen on validation data.

    Frauds are rare, yet there are no class weights: they cost average precision, and without them a score can
    be read as a probability.
    """

    learning_rate: float = 0.05
    max_iterations: int = 300
    max_leaf_nodes: int = 8
    l2_regularization: float = 10.0
    max_features: float = 0.5
    random_seed: int = 0

    @classmethod
    def from_strings(cls, given: dict[str, str]) -> "Hyperparameters":
        """The hyperparameters as a training job gets them: text by name; the defaults for those not given.

        SageMaker's own entries (sagemaker_...) are passed over. Raises BadInput naming the one that is unknown,
        unreadable or out of range.
        """
        kinds: dict[str, type[float]] = {field.name: type(getattr(cls, field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name.startswith("sagemaker_"):
                continue
            if name not in kinds:
                near = get_close_matches(name, kinds, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(kinds)}"
                raise BadInput(f"unknown hyperparameter {name!r}; {hint}")
            least, most, expected = LIMITS[name]
            try:
                value = kinds[name](text)
            except ValueError:
                value = float("nan")
            if not least <= value <= most:
                raise BadInput(f"hyperparameter {name} is {text!r}, expected {expected}")
            values[name] = value
        return cls(**values)


def build(hyperparameters: Hyperparameters) -> Pipeline:
    """An unfitted scikit-learn Pipeline: `TailBinner`, then `HistGradientBoostingClassifier`.

    It takes float64 matrices, [n, features], without feature names; NaN is a value that is missing.
    """
    trees = HistGradientBoostingClassifier(
        learning_rate=hyperparameters.learning_rate,
        max_iter=hyperparameters.max_iterations,
        max_leaf_nodes=hyperparameters.max_leaf_nodes,
        l2_regularization=hyperparameters.l2_regularization,
        max_features=hyperparameters.max_features,
        random_state=hyperparameters.random_seed,
        early_stopping=False,  # by default it would hold rows back at random, not by time
    )
    return Pipeline([("bins", TailBinner()), ("trees", trees)])
