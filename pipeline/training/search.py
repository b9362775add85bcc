"""The search for hyperparameters, on validation folds only.

Each combination is fitted and tested as in service: training ends a label delay before each test week. The rows end
where the next run's test week (or the benchmark's first one) begins, so that no choice made here has seen it.

Combinations are drawn at random from a small grid: J. Bergstra, Y. Bengio, "Random Search for Hyper-Parameter
Optimization", JMLR 13, 2012. All are tested on the same folds and compared with the defaults fold by fold.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.data import dataset
from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold, usable_weeks
from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.training.fold_scores import score_fold
from processing.contract import Contract
from processing.errors import BadInput
from processing.split import date_of, split_days
from processing.storage.home import Home

GRID: dict[str, tuple[str, ...]] = {  # by the pipeline's parameters, whose values are text too
    "LearningRate": ("0.025", "0.05", "0.1"),
    "MaxIterations": ("150", "300", "600"),
    "MaxLeafNodes": ("4", "8", "16", "32"),
    "L2Regularization": ("1", "10", "100"),
    "MaxFeatures": ("0.25", "0.5", "1"),
}


@dataclass(frozen=True)
class Trial:
    """One combination: its settings, its metrics on every fold, and the processor time it took."""

    settings: dict[str, str]
    average_precision: tuple[float, ...]
    roc_auc: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """The mean average precision, by which trials are ranked."""
        return float(np.mean(self.average_precision))


def validation_weeks(home: Home, contract: Contract, count: int) -> tuple[Dataset, list[Fold]]:
    """A home's labelled rows before the next run's test week, and up to `count` folds on them.

    Raises BadInput if no fold has frauds and legitimate transactions both to train and to test on.
    """
    from processing.tables import tables as iceberg
    from processing.tables.snapshots import row_counts

    if not home.folders("warehouse/"):
        raise BadInput(f"the home {home.url} has no data yet; `fraudline run` accepts the first files")
    tables = iceberg.open_tables(home, contract)
    labelled = row_counts(tables.features, labelled=True)
    test = split_days(labelled, row_counts(tables.features), contract).test
    first = test.start - count * contract.test_days - contract.label_delay_days - contract.train_days
    window = tables.read("features", range(first, test.start))
    rows = dataset.of_table(window, contract, f"the features of {home.url}")
    return rows, usable_weeks(rows, test.start, contract, count)


def combinations(values: Mapping[str, Sequence[str]], trials: int, seed: int) -> list[dict[str, str]]:
    """The defaults, then up to `trials` other combinations, drawn from these values or, if there are none, from GRID.

    Raises BadInput for a name or a value that a run would refuse.
    """
    grid = values or GRID
    every = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    hyperparameters = [as_hyperparameters(settings) for settings in every]
    different = [index for index, one in enumerate(hyperparameters) if one != Hyperparameters()]
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(different))[:trials]
    return [{}, *(every[different[index]] for index in sorted(drawn))]


def as_hyperparameters(settings: Mapping[str, str]) -> Hyperparameters:
    """The hyperparameters of a run with these settings. Raises BadInput."""
    keys = {name: key for key, (name, _) in HYPERPARAMETERS.items()}
    if unknown := settings.keys() - keys:
        near = get_close_matches(min(unknown), keys, 1)
        hint = f"did you mean {near[0]!r}? Known" if near else "known"
        raise BadInput(f"unknown hyperparameter {min(unknown)!r}; {hint}: {', '.join(keys)}")
    return Hyperparameters.from_strings({keys[name]: value for name, value in settings.items()})


def search(
    rows: Dataset,
    folds: Sequence[Fold],
    contract: Contract,
    combinations: Sequence[Mapping[str, str]],
    *,
    card: str | None = None,
    progress: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Every combination on every fold, best first, ties in their order. `card`: see `Fold.test_rows`."""

    def one(settings: Mapping[str, str], fold: Fold) -> tuple[float, float]:
        test, score = score_fold(rows, fold, contract.train_days, as_hyperparameters(settings), card)
        return float(average_precision_score(rows.y[test], score)), float(roc_auc_score(rows.y[test], score))

    def trials() -> Iterator[Trial]:
        with ThreadPoolExecutor(2) as pool:
            for settings in combinations:
                started = time.process_time()
                precisions, areas = zip(*pool.map(one, itertools.repeat(settings), folds), strict=False)
                trial = Trial(dict(settings), precisions, areas, time.process_time() - started)
                progress(trial)
                yield trial

    return sorted(trials(), key=lambda trial: -trial.mean)


def search_table(trials: Sequence[Trial]) -> str:
    """The trials as a table, best first, and the command that uses the best."""
    default = next(trial for trial in trials if not trial.settings)
    lines = [f"{'average precision':>20}{'against the defaults':>24}{'AUC ROC':>10}{'CPU s':>8}  settings"]
    for trial in trials:
        differences = np.subtract(trial.average_precision, default.average_precision)
        against = f"{differences.mean():+.4f}" if trial.settings else "-"
        if trial.settings and len(differences) > 1:
            against += f" ± {differences.std(ddof=1) / np.sqrt(len(differences)):.4f}"
        precision = f"{trial.mean:.4f} ± {np.std(trial.average_precision):.4f}"
        words = " ".join(f"{name}={value}" for name, value in trial.settings.items()) or "the defaults"
        lines.append(f"{precision:>20}{against:>24}{np.mean(trial.roc_auc):>10.4f}{trial.seconds:>8.0f}  {words}")
    folds = len(default.average_precision)
    lines.append(f"mean ± standard deviation over {folds} fold(s); against the defaults: ± standard error of the mean")
    lines.append(best_line(trials[0]))
    return "\n".join(lines)


def best_line(best: Trial) -> str:
    """The line that names the command with a trial's settings."""
    settings = "".join(f" --set {name}={value}" for name, value in best.settings.items())
    return f"To use the best: fraudline run{settings}" if settings else "The defaults are the best: fraudline run"


def search_document(trials: Sequence[Trial], folds: Sequence[Fold]) -> dict[str, Any]:
    """The trials, JSON-ready."""
    weeks = [[date_of(fold.test[0]).isoformat(), date_of(fold.test[-1]).isoformat()] for fold in folds]
    return {"folds": weeks, "trials": [asdict(trial) | {"mean": trial.mean} for trial in trials]}
