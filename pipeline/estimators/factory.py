"""Makes the unfitted classifier that the hyperparameter `estimator` names."""

from importlib import import_module
from typing import Any

from sklearn.base import is_classifier

from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.legacy_names import current_module
from processing.errors import BadInput


def build_estimator(hyperparameters: Hyperparameters) -> Any:
    """An unfitted classifier from the factory `module:name` in `hyperparameters.estimator`.

    The factory is called with the hyperparameters. It must return a scikit-learn classifier with `predict_proba` that
    takes float64 matrices, [n, features], without feature names, where NaN means a missing value. Its module comes with
    the image, or with the run as its own code (`pipeline.runs.own_code`). A model that `pipeline.scorer.packers` cannot
    pack is served from its joblib file. Raises BadInput.
    """
    estimator = hyperparameters.estimator
    module, _, name = estimator.partition(":")
    try:
        factory = getattr(import_module(current_module(module)), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"cannot import the estimator {estimator!r}: {error}; give it as module:factory, e.g. "
            "pipeline.estimators.trees:trees, or as file:factory, e.g. notebooks/estimators.py:forest"
        ) from None
    try:
        classifier = factory(hyperparameters)
        fits = not isinstance(classifier, type) and is_classifier(classifier) and hasattr(classifier, "predict_proba")
    except (TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"the estimator {estimator!r} failed when called with Hyperparameters: {error}") from error
    if not fits:
        returned = type(classifier).__name__
        raise BadInput(f"the estimator {estimator!r} returned a {returned}, expected a classifier with predict_proba")
    return classifier
