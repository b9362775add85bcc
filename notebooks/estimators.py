"""Estimators to try: each function returns an unfitted classifier with the given hyperparameters.

To use one, run with `--set Estimator=notebooks/estimators.py:forest`. This file travels with the run, and so do modules
beside it that it imports.
"""

from sklearn.ensemble import ExtraTreesClassifier

from pipeline.estimators.hyperparameters import Hyperparameters


def forest(hyperparameters: Hyperparameters) -> ExtraTreesClassifier:
    """Extremely randomized trees (P. Geurts, D. Ernst, L. Wehenkel, "Extremely Randomized Trees", 2006)."""
    return ExtraTreesClassifier(
        n_estimators=min(hyperparameters.max_iterations, 150),
        max_features=hyperparameters.max_features,
        min_samples_leaf=3,
        random_state=hyperparameters.random_seed,
    )
