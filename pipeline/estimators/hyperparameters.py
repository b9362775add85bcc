"""The hyperparameters of training, and their limits."""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from pipeline.definition import defaults
from processing.errors import BadInput

LIMITS: dict[str, tuple[float, float, str]] = {
    "learning_rate": (1e-6, 1.0, "a number above 0, at most 1"),
    "max_iterations": (1, 100_000, "a whole number from 1"),
    "max_leaf_nodes": (2, 65_536, "a whole number from 2"),
    "l2_regularization": (0.0, 1e12, "a number from 0"),
    "max_features": (1e-6, 1.0, "a number above 0, at most 1"),
    "random_seed": (0, 2**32 - 1, "a whole number from 0 to 4294967295"),
}


@dataclass(frozen=True)
class Hyperparameters:
    """The settings of one training. The defaults were chosen on the validation folds of
    `pipeline.benchmarks.handbook`; `fraudline search --handbook FILE` compares others with them.

    Frauds are rare, yet there are no class weights: they lower the average precision, and without them a score can
    be read as a probability.

    estimator: `module:factory`, which makes the unfitted classifier; see `pipeline.estimators.factory`. A factory of
        your own may use the other hyperparameters as it likes.
    """

    learning_rate: float = defaults.LEARNING_RATE
    max_iterations: int = defaults.MAX_ITERATIONS
    max_leaf_nodes: int = defaults.MAX_LEAF_NODES
    l2_regularization: float = defaults.L2_REGULARIZATION
    max_features: float = defaults.MAX_FEATURES
    random_seed: int = defaults.RANDOM_SEED
    estimator: str = defaults.ESTIMATOR

    @classmethod
    def from_strings(cls, texts: dict[str, str]) -> "Hyperparameters":
        """The hyperparameters of a training job, which passes them as text by name; the rest have their defaults.

        SageMaker's own entries (sagemaker_...) are ignored. Raises BadInput naming the one that is unknown,
        unreadable or out of range.
        """
        types: dict[str, type[Any]] = {field.name: type(getattr(cls, field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in texts.items():
            if name.startswith("sagemaker_"):
                continue
            if name not in types:
                near = get_close_matches(name, types, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(types)}"
                raise BadInput(f"unknown hyperparameter {name!r}; {hint}")
            if name not in LIMITS:
                values[name] = text
                continue
            least, most, expected = LIMITS[name]
            try:
                value = types[name](text)
            except ValueError:
                value = float("nan")
            if not least <= value <= most:
                raise BadInput(f"hyperparameter {name} is {text!r}, expected {expected}")
            values[name] = value
        return cls(**values)
