"""The default estimator: bins with sharp tails, then gradient-boosted trees.

What goes in and what comes out:

- A number is used as it is. A category is its position in the contract's list; the trees split that order as often as
  they need to single a category out.
- A missing number, a missing category and a category that the contract does not list are all NaN. Where training had
  such rows, each split has learnt which side they go to; where it had none, they go with the majority of the training
  rows. A feature without any value in training has no influence.
- The score is a probability: boosting minimises the log loss, a proper scoring rule, and no class or row is weighted.
  Every evaluation measures how well that holds (`pipeline.evaluation.calibration`), and so does the benchmark
  (`pipeline.benchmarks.handbook`). No calibrator follows. Platt, beta and isotonic calibration, fitted to the week that
  chooses the threshold, did not lower the log loss of later weeks: a week has few frauds, and the next week has others.
"""

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipeline.estimators.binner import TailBinner
from pipeline.estimators.hyperparameters import Hyperparameters


def trees(hyperparameters: Hyperparameters) -> Pipeline:
    """`TailBinner`, then `HistGradientBoostingClassifier`."""
    boosting = HistGradientBoostingClassifier(
        learning_rate=hyperparameters.learning_rate,
        max_iter=hyperparameters.max_iterations,
        max_leaf_nodes=hyperparameters.max_leaf_nodes,
        l2_regularization=hyperparameters.l2_regularization,
        max_features=hyperparameters.max_features,
        random_state=hyperparameters.random_seed,
        early_stopping=False,  # by default it would hold out random rows, not the latest
    )
    return Pipeline([("bins", TailBinner()), ("trees", boosting)])
