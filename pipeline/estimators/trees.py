"""The model: tail-aware bins, then gradient-boosted trees.

What it takes and what it gives:

- A number is used as it is. A category is its place in the contract's list; the trees cut that order as often as
  they need to single a category out.
- A missing number, a missing category and a category that the contract does not list are NaN, and alike. Where
  training had such rows, each split has learnt which side they belong to; where it had none, they go with the greater
  part of the training rows. A feature without any value in training has no influence.
- The score is a probability: boosting minimises the log loss, which is a proper scoring rule, and no class or row is
  weighted. Every evaluation measures how far that holds (`pipeline.evaluation.calibration`), and so does the benchmark
  (`pipeline.benchmarks.handbook`). No calibrator comes after it: Platt's, beta and isotonic calibration, fitted to the
  week that chooses the threshold, left the log loss of later weeks no better, since a week has few frauds and the next
  others.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipeline.definition import defaults
from pipeline.estimators.binner import TailBinner
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
    """What can be set about the training. The defaults were chosen on the validation folds of
    `pipeline.benchmarks.handbook`; `fraudline search --handbook FILE` compares others with them.

    Frauds are rare, yet there are no class weights: they cost average precision, and without them a score can
    be read as a probability.

    estimator: `module:factory`, what makes the unfitted classifier; see `build`. Another one makes of the other
        hyperparameters what it will.
    """

    learning_rate: float = defaults.LEARNING_RATE
    max_iterations: int = defaults.MAX_ITERATIONS
    max_leaf_nodes: int = defaults.MAX_LEAF_NODES
    l2_regularization: float = defaults.L2_REGULARIZATION
    max_features: float = defaults.MAX_FEATURES
    random_seed: int = defaults.RANDOM_SEED
    estimator: str = defaults.ESTIMATOR

    @classmethod
    def from_strings(cls, given: dict[str, str]) -> "Hyperparameters":
        """The hyperparameters as a training job gets them: text by name; the defaults for those not given.

        SageMaker's own entries (sagemaker_...) are passed over. Raises BadInput naming the one that is unknown,
        unreadable or out of range.
        """
        kinds: dict[str, type[Any]] = {field.name: type(getattr(cls, field.name)) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name.startswith("sagemaker_"):
                continue
            if name not in kinds:
                near = get_close_matches(name, kinds, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(kinds)}"
                raise BadInput(f"unknown hyperparameter {name!r}; {hint}")
            if name not in LIMITS:
                values[name] = text
                continue
            least, most, expected = LIMITS[name]
            try:
                value = kinds[name](text)
            except ValueError:
                value = float("nan")
            if not least <= value <= most:
                raise BadInput(f"hyperparameter {name} is {text!r}, expected {expected}")
            values[name] = value
        return cls(**values)


def build(hyperparameters: Hyperparameters) -> Any:
    """An unfitted classifier, made by the factory that `hyperparameters.estimator` names.

    The factory is called with the hyperparameters. What it gives must be a scikit-learn classifier with
    `predict_proba` that takes float64 matrices, [n, features], without feature names; NaN is a value that is missing.
    Its module must be importable where training, evaluation and serving run: in AWS, part of the image. What
    `pipeline.scorer.packers` cannot pack is served by joblib. Raises BadInput.
    """
    named = hyperparameters.estimator
    module, _, name = named.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"the estimator {named!r} is not there: {error}; give module:factory, of a module on the PYTHONPATH, "
            "e.g. pipeline.estimators.trees:trees"
        ) from None
    try:
        made = factory(hyperparameters)
        fits = not isinstance(made, type) and is_classifier(made) and hasattr(made, "predict_proba")
    except (TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"the estimator {named!r} cannot be made of Hyperparameters: {error}") from error
    if not fits:
        kind = type(made).__name__
        raise BadInput(f"the estimator {named!r} gives a {kind}, expected a classifier with predict_proba")
    return made


def trees(hyperparameters: Hyperparameters) -> Pipeline:
    """The product's own: `TailBinner`, then `HistGradientBoostingClassifier`."""
    boosting = HistGradientBoostingClassifier(
        learning_rate=hyperparameters.learning_rate,
        max_iter=hyperparameters.max_iterations,
        max_leaf_nodes=hyperparameters.max_leaf_nodes,
        l2_regularization=hyperparameters.l2_regularization,
        max_features=hyperparameters.max_features,
        random_state=hyperparameters.random_seed,
        early_stopping=False,  # by default it would hold rows back at random, not by time
    )
    return Pipeline([("bins", TailBinner()), ("trees", boosting)])
