"""The pipeline's defaults: instances, the gate's limits and hyperparameters. Each number is written only here."""

INSTANCE_TYPE = "ml.m5.xlarge"  # of the Train and Evaluate steps; another one also needs its price in prices.toml

MIN_AVERAGE_PRECISION = 0.1
CONFIDENCE_LEVEL = 0.95
NON_INFERIORITY_MARGIN = 0.03
LOOKBACK_DAYS = 180

LEARNING_RATE = 0.05
MAX_ITERATIONS = 300
MAX_LEAF_NODES = 16
L2_REGULARIZATION = 10.0
MAX_FEATURES = 0.25
RANDOM_SEED = 0
ESTIMATOR = "pipeline.estimators.trees:trees"

# By the name that training uses: the pipeline parameter and its default.
HYPERPARAMETERS: dict[str, tuple[str, str | int | float]] = {
    "learning_rate": ("LearningRate", LEARNING_RATE),
    "max_iterations": ("MaxIterations", MAX_ITERATIONS),
    "max_leaf_nodes": ("MaxLeafNodes", MAX_LEAF_NODES),
    "l2_regularization": ("L2Regularization", L2_REGULARIZATION),
    "max_features": ("MaxFeatures", MAX_FEATURES),
    "random_seed": ("RandomSeed", RANDOM_SEED),
    "estimator": ("Estimator", ESTIMATOR),
}
