"""Scores of folds: a model is fitted on each fold's history and scores its test rows."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.predict import scores
from pipeline.training.fit import fit
from processing.arrays import Floats, Ints


class FoldScores(NamedTuple):
    """The indices of a fold's test rows, [n], and their scores, [n]."""

    test: Ints
    score: Floats


def score_fold(
    rows: Dataset, fold: Fold, history_days: int, hyperparameters: Hyperparameters, card: str | None = None
) -> FoldScores:
    """The scores of one fold. `card`: see `Fold.test_rows`."""
    model = fit(fold.train(rows, history_days), hyperparameters)
    test = fold.test_rows(rows, card)
    return FoldScores(test, scores(model, rows.X[test]))


def score_folds(
    rows: Dataset,
    folds: Sequence[Fold],
    history_days: int,
    hyperparameters: Hyperparameters,
    card: str | None = None,
) -> list[FoldScores]:
    """The scores of every fold, in order."""
    with ThreadPoolExecutor(2) as threads:  # two parallel fits are faster than one on two cores
        return list(threads.map(lambda fold: score_fold(rows, fold, history_days, hyperparameters, card), folds))
