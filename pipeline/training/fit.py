"""Fits a challenger and chooses its threshold.

The threshold must be chosen on later rows that the model has not seen, as in service. So a first model is fitted
without the last days of the training set, and the threshold is the cheapest one for it on those days. The delivered
model is then fitted on all rows with the same hyperparameters: fraud changes, and the latest days are worth most. It
takes over the threshold. That is sound as long as both models give the same score to the same risk: they differ by a
few days of data, and neither weights classes, so both estimate the same probability. Evaluation measures the threshold
on test rows that neither model saw.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from pipeline.data.dataset import Dataset
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.predict import scores
from pipeline.evaluation import threshold
from pipeline.evaluation.feature_strength import strengths
from pipeline.evaluation.model_metrics import measure_model
from pipeline.registry.requirements import library_versions
from pipeline.training.validation_split import ValidationSplit, split_validation
from processing.arrays import Floats
from processing.contract import Contract
from processing.features.feature_set import FeatureSet


class ThresholdedModel(NamedTuple):
    """A model fitted on all rows of a training set, and the threshold that an earlier fit has chosen.

    validation: the later rows, which the earlier fit has not seen; validation_scores: what it gives them
    method: how the threshold was chosen
    """

    model: Any
    split: ValidationSplit
    validation: Dataset
    validation_scores: Floats
    choice: threshold.ThresholdChoice
    method: str


def fit_with_threshold(
    rows: Dataset,
    contract: Contract,
    hyperparameters: Hyperparameters,
    alerts_per_day: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> ThresholdedModel:
    """Fit on all rows, and choose the threshold on later rows with a fit on the earlier ones. `say` gets a line each.

    The threshold is the cheapest on the validation rows or, with `alerts_per_day`, the lowest within that budget.
    Raises BadInput if the rows cannot be split so that both parts hold frauds and legitimate transactions.
    """
    split = split_validation(rows, contract)
    early, later = rows.part(slice(0, split.fit_end)), rows.part(slice(split.start, None))
    with ThreadPoolExecutor(2) as pool:  # one fit gains little from a second core, two fits gain all of it
        first_fit = pool.submit(_fit, early, hyperparameters, "to choose the threshold", say)
        final_fit = pool.submit(_fit, rows, hyperparameters, "for the final model", say)
    first, model = first_fit.result(), final_fit.result()
    score = scores(first, later.X)
    choice, method = threshold.choose(later.y, later.amount, score, later.day, alerts_per_day, contract)
    return ThresholdedModel(model, split, later, score, choice, method)


def train(
    rows: Dataset, contract: Contract, hyperparameters: Hyperparameters, alerts_per_day: int = 0
) -> tuple[Any, dict[str, Any]]:
    """The model of `fit_with_threshold`, and the record of its training (training.json). Raises as that does."""
    fitted = fit_with_threshold(rows, contract, hyperparameters, alerts_per_day, partial(print, flush=True))
    split, later, choice = fitted.split, fitted.validation, fitted.choice
    validation = measure_model(later, fitted.validation_scores, choice.threshold, contract)
    print(
        f"chose threshold {choice.threshold:.4g} on {split.how}: average precision "
        f"{validation['average_precision']:.3f}, cost {choice.cost:.2f} instead of {choice.cost_of_no_alerts:.2f}",
        flush=True,
    )
    features = FeatureSet(contract)
    return fitted.model, {
        "contract": {"name": contract.name, "digest": contract.digest},
        "hyperparameters": asdict(hyperparameters),
        "features": list(features.names),
        "dtypes": features.dtypes,
        "threshold": choice.threshold,
        "threshold_choice": {
            "method": fitted.method,
            "rows": split.how,
            "validation_days": later.window,
            "gap_days": split.gap_days,
            "cost": choice.cost,
            "cost_of_no_alerts": choice.cost_of_no_alerts,
            "alerts": choice.alerts,
        },
        "window": rows.window,
        "rows": rows.rows,
        "frauds": rows.frauds,
        "data_digest": rows.digest,
        "strengths": strengths(rows, features.names),
        "validation": validation,
        "libraries": library_versions(),
    }


def fit(rows: Dataset, hyperparameters: Hyperparameters) -> Any:
    """A model fitted on all these rows, on half of the machine's cores: two fits can run at once."""
    with threadpool_limits(max(1, (os.cpu_count() or 1) // 2), user_api="openmp"):  # of this thread only
        return build_estimator(hyperparameters).fit(rows.X, rows.y)


def _fit(rows: Dataset, hyperparameters: Hyperparameters, purpose: str, say: Callable[[str], None]) -> Any:
    started = time.monotonic()
    model = fit(rows, hyperparameters)
    say(f"fitted {rows.rows} rows {purpose} in {time.monotonic() - started:.1f} s")
    return model
