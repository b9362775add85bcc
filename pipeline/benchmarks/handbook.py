"""The reference benchmark: the protocol of the Fraud Detection Handbook, with this product's features and training.

A fold trains on some days, skips the seven days of label delay, and tests on the seven days after. It leaves out cards
that are already known to be defrauded: those with a fraud since the book's start of training that is at least seven
days old. With a longer history than the book's seven days of training, the test rows stay the same.

Everything is chosen on the four validation folds. The test folds only yield figures of the default hyperparameters, by
`benchmark_handbook`; `validation_rows` ends before the first test week begins.

Source: Y.-A. Le Borgne, W. Siblini, B. Lebichot, G. Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook", 2022: chapter 5.3 (prequential validation), chapter 4 (measures), and chapters 5 to 7
for the best published figures on the four test folds: of any model, separately for each measure.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.benchmarks.figures import machine, over_folds, with_deviation
from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold
from pipeline.data.transactions import as_dataset, read_transactions
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.evaluation.calibration import calibration
from pipeline.evaluation.model_metrics import card_precision
from pipeline.training.fold_scores import score_folds
from processing.arrays import Floats, Ints
from processing.contracts import reader as contracts
from processing.errors import BadInput
from processing.split import EPOCH, date_of

DAYS = 7  # in the book: of training, of label delay and of test
CARD = "customer"  # the book counts a customer as a card
K = 100
PUBLISHED = {"auc_roc": 0.879, "average_precision": 0.694, "card_precision_at_100": 0.305}
CALIBRATION = "frauds_foretold"  # predicted / actual frauds
LEGEND = """mean ± standard deviation over four folds; days of training history
predicted / actual frauds: predicted is the sum of the scores, read as probabilities"""
_STARTS = {
    "validation": (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11)),
    "test": (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15)),
}

Measures = dict[str, Any]


def book_fold(start: date) -> Fold:
    """The fold whose training begins on this day in the book."""
    first = (start - EPOCH).days
    return Fold(range(first + 2 * DAYS, first + 3 * DAYS), DAYS, known_since=first)


def validation_folds() -> tuple[Fold, ...]:
    """The folds for choosing hyperparameters."""
    return tuple(map(book_fold, _STARTS["validation"]))


def validation_rows(file: Path) -> Dataset:
    """The file's rows with their features, before the first test week. Raises BadInput."""
    rows = _rows(file)
    return rows.part(slice(0, int(np.searchsorted(rows.day, book_fold(_STARTS["test"][0]).test.start))))


def benchmark_handbook(file: Path, progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure the default model, with seven days of training history and with the contract's default number of days.

    {"test": {"7_days": M, "default": M}, "validation": the same, "published_best": {measure: figure}, ...}. M has
    history_days and, for each measure, its mean and standard deviation over the four folds (of the population, as in
    scikit-learn's searches) and each fold's figure. `progress` gets a line for each part. Raises BadInput.
    """
    rows = _rows(file)
    hyperparameters = Hyperparameters()
    histories = {"7_days": DAYS, "default": contracts.load("handbook").train_days}
    result: dict[str, Any] = {}
    for which, starts in _STARTS.items():
        folds = [book_fold(start) for start in starts]
        result[which] = {}
        for name, history in histories.items():
            progress(f"{which} folds, {history} days of history")
            result[which][name] = measure_folds(rows, folds, history, hyperparameters)
    return {
        **dict(sorted(result.items())),
        "published_best": PUBLISHED,
        "hyperparameters": asdict(hyperparameters),
        "features": rows.X.shape[1],
        "rows": rows.rows,
        "frauds": rows.frauds,
        "data_digest": rows.digest,
        "machine": machine(),
    }


def measure_folds(
    rows: Dataset, folds: Sequence[Fold], history_days: int, hyperparameters: Hyperparameters
) -> Measures:
    """Measure a model on some folds: {"history_days", measure: {"mean", "standard_deviation", "folds"}}.

    auc_roc, average_precision: over all rows of the test week
    card_precision_at_100: see `pipeline.evaluation.model_metrics.card_precision`
    frauds_foretold: predicted / actual frauds; predicted is the sum of the scores. 1 if they are calibrated
    """

    scored = score_folds(rows, folds, history_days, hyperparameters, CARD)
    figures = [_figures(rows.y[test], score, rows.day[test], rows.entities[CARD][test]) for test, score in scored]
    names = (*PUBLISHED, CALIBRATION)
    by_name = zip(names, zip(*figures, strict=True), strict=True)
    return {"history_days": history_days} | {name: over_folds(values) for name, values in by_name}


def _figures(y: NDArray[Any], score: Floats, day: Ints, cards: NDArray[Any]) -> tuple[float, ...]:
    return (
        float(roc_auc_score(y, score)),
        float(average_precision_score(y, score)),
        card_precision(y, score, day, cards, K),
        calibration(y, score)["frauds_expected"] / np.count_nonzero(y),
    )


def handbook_table(result: dict[str, Any]) -> str:
    """The result of `benchmark_handbook` as lines of text."""
    lines = [f"{'':<28}{'AUC ROC':>16}{'average precision':>20}{'card precision@100':>20}{'predicted / actual':>20}"]
    widths = (16, 20, 20, 20)

    def add(name: str, cells: Iterable[str]) -> None:
        lines.append(f"{name:<28}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False)))

    for which in ("test", "validation"):
        for measures in result[which].values():
            figures = [measures[name] for name in (*PUBLISHED, CALIBRATION)]
            add(f"{which} folds, {measures['history_days']} days", map(with_deviation, figures))
    add("the book's best, test folds", (f"{figure:.3f}" for figure in result["published_best"].values()))
    return "\n".join([*lines, LEGEND])


def _rows(file: Path) -> Dataset:
    contract = contracts.load("handbook")
    rows = as_dataset(read_transactions(file, contract), contract, str(file))
    first = book_fold(_STARTS["validation"][0]).train_end - contract.train_days
    last = book_fold(_STARTS["test"][-1]).test[-1]
    if rows.day[0] > first or rows.day[-1] < last:
        raise BadInput(
            f"{file} has the days {date_of(int(rows.day[0]))} to {date_of(int(rows.day[-1]))}; the protocol needs "
            f"{date_of(first)} to {date_of(last)}: use the handbook's transactions of 2018 in one file"
        )
    return rows
