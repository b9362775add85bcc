"""The search for hyperparameters, on validation folds alone.

Each combination is fitted and judged on weeks of its own, as in use: training ends a label delay before. The rows end
where the product's test week (or the benchmark's first one) begins, so that what is chosen here has not seen it.

Combinations are drawn at random from a small grid: J. Bergstra, Y. Bengio, "Random Search for Hyper-Parameter
Optimization", JMLR 13, 2012. All are judged on the same folds, and compared with the defaults fold by fold.
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
from pipeline.data.folds import Fold, last_weeks
from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.estimators.predict import scores
from pipeline.estimators.trees import Hyperparameters
from pipeline.training.fit import fit
from processing.contract import Contract
from processing.errors import BadInput
from processing.split import date_of, split_days
from processing.storage.home import Home

GRID: dict[str, tuple[str, ...]] = {  # by the pipeline's parameters, as text like there
    "LearningRate": ("0.025", "0.05", "0.1"),
    "MaxIterations": ("150", "300", "600"),
    "MaxLeafNodes": ("4", "8", "16", "32"),
    "L2Regularization": ("1", "10", "100"),
    "MaxFeatures": ("0.25", "0.5", "1"),
}


@dataclass(frozen=True)
class Trial:
    """One combination: what was set, its measures on every fold, the processor time it took."""

    settings: dict[str, str]
    average_precision: tuple[float, ...]
    roc_auc: tuple[float, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """The mean average precision, by which trials are ranked."""
        return float(np.mean(self.average_precision))


def of_home(home: Home, contract: Contract, count: int) -> tuple[Dataset, list[Fold]]:
    """A home's labelled rows before the product's test week, and up to `count` folds on them.

    Raises BadInput if there is no fold with frauds and honest transactions both to learn from and to be judged on.
    """
    from processing.tables import tables as iceberg
    from processing.tables.snapshots import row_counts

    if not home.folders("warehouse/"):
        raise BadInput(f"the home {home.url} has no data yet; `fraudline run` takes some in")
    tables = iceberg.open_tables(home, contract)
    labelled = row_counts(tables.features, labelled=True)
    test = split_days(labelled, row_counts(tables.features), contract).test
    first = test.start - count * contract.test_days - contract.label_delay_days - contract.train_days
    window = tables.read("features", range(first, test.start))
    rows = dataset.of_table(window, contract, f"the features of {home.url}")
    folds = [fold for fold in last_weeks(test.start, contract, count) if _usable(rows, fold, contract)]
    if not folds:
        raise BadInput(
            f"the rows from {date_of(int(rows.day[0]))} to {date_of(int(rows.day[-1]))} give no validation fold: "
            f"{contract.test_days} days to be judged on, and older by {contract.label_delay_days} days ones to learn "
            "from, both with frauds and honest transactions; add older files"
        )
    return rows, folds


def _usable(rows: Dataset, fold: Fold, contract: Contract) -> bool:
    places = fold.test_rows(rows, None)
    test = rows.part(slice(int(places[0]), int(places[-1]) + 1)) if len(places) else rows.part(slice(0, 0))
    return fold.train(rows, contract.train_days).learnable and test.learnable


def combinations(given: Mapping[str, Sequence[str]], trials: int, seed: int) -> list[dict[str, str]]:
    """The defaults, then `trials` different combinations (or as many as there are) of the grid, or of what is given.

    Raises BadInput for a name or a value that a run would refuse too.
    """
    grid = given or GRID
    unknown = grid.keys() - _keys()
    if unknown:
        near = get_close_matches(min(unknown), _keys(), 1)
        hint = f"did you mean {near[0]!r}? Known" if near else "known"
        raise BadInput(f"unknown hyperparameter {min(unknown)!r}; {hint}: {', '.join(_keys())}")
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    hyperparameters = [as_hyperparameters(settings) for settings in every]
    different = [place for place, made in enumerate(hyperparameters) if made != Hyperparameters()]
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(different))[:trials]
    return [{}, *(every[different[place]] for place in sorted(drawn))]


def as_hyperparameters(settings: Mapping[str, str]) -> Hyperparameters:
    """What training is given when a run has these settings. Raises BadInput."""
    keys = _keys()
    return Hyperparameters.from_strings({keys[name]: value for name, value in settings.items()})


def search(
    rows: Dataset,
    folds: Sequence[Fold],
    contract: Contract,
    tried: Sequence[Mapping[str, str]],
    *,
    card: str | None = None,
    progress: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Every combination on every fold, best first; of equal ones the first tried. `card`: see `Fold.test_rows`."""

    def one(settings: Mapping[str, str], fold: Fold) -> tuple[float, float]:
        model = fit(fold.train(rows, contract.train_days), as_hyperparameters(settings))
        places = fold.test_rows(rows, card)
        score, y = scores(model, rows.X[places]), rows.y[places]
        return float(average_precision_score(y, score)), float(roc_auc_score(y, score))

    def trials() -> Iterator[Trial]:
        with ThreadPoolExecutor(2) as together:
            for settings in tried:
                began = time.process_time()
                precisions, areas = zip(*together.map(one, itertools.repeat(settings), folds), strict=False)
                trial = Trial(dict(settings), precisions, areas, time.process_time() - began)
                progress(trial)
                yield trial

    return sorted(trials(), key=lambda trial: -trial.mean)


def table(found: Sequence[Trial]) -> str:
    """What a search gave, best first, and the line that uses it."""
    default = next(trial for trial in found if not trial.settings)
    lines = [f"{'average precision':>20}{'against the defaults':>24}{'AUC ROC':>10}{'CPU s':>8}  settings"]
    for trial in found:
        differences = np.subtract(trial.average_precision, default.average_precision)
        against = f"{differences.mean():+.4f}" if trial.settings else "-"
        if trial.settings and len(differences) > 1:
            against += f" ± {differences.std(ddof=1) / np.sqrt(len(differences)):.4f}"
        precision = f"{trial.mean:.4f} ± {np.std(trial.average_precision):.4f}"
        words = " ".join(f"{name}={value}" for name, value in trial.settings.items()) or "the defaults"
        lines.append(f"{precision:>20}{against:>24}{np.mean(trial.roc_auc):>10.4f}{trial.seconds:>8.0f}  {words}")
    folds = len(default.average_precision)
    lines.append(f"mean ± standard deviation over {folds} fold(s); against the defaults ± standard error of the mean")
    lines.append(best_line(found[0]))
    return "\n".join(lines)


def best_line(best: Trial) -> str:
    """The command that uses a trial's settings."""
    settings = "".join(f" --set {name}={value}" for name, value in best.settings.items())
    return f"To use the best: fraudline run{settings}" if settings else "The defaults are the best: fraudline run"


def as_document(found: Sequence[Trial], folds: Sequence[Fold]) -> dict[str, Any]:
    """What a search gave, for a program."""
    weeks = [[date_of(fold.test[0]).isoformat(), date_of(fold.test[-1]).isoformat()] for fold in folds]
    return {"folds": weeks, "trials": [asdict(trial) | {"mean": trial.mean} for trial in found]}


def _keys() -> dict[str, str]:
    """By the pipeline's parameter: what training calls it."""
    return {named[0]: key for key, named in HYPERPARAMETERS.items()}
