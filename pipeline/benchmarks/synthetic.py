"""Detection on synthetic data: average precision, and recall by fraud pattern, which only the synthesizer can tell.

Contracts are compared on the same transactions and the same test weeks. Everything else is the product's own: intake,
features, estimator and default hyperparameters. A fold trains on the contract's `train_days`, skips its label delay and
tests on the `test_days` after it. The test weeks are the last ones of the data, the validation weeks those just before:
choose on the validation weeks, and keep the test weeks for the figures of the choice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import average_precision_score

from pipeline.benchmarks.figures import machine, over_folds, with_deviation
from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold, last_weeks
from pipeline.data.transactions import as_dataset, read_transactions
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.training.fold_scores import score_folds
from processing.arrays import Floats
from processing.contract import ENTRIES, Contract
from processing.durations import DAY_US
from processing.errors import BadInput
from processing.features.table_features import time_us
from processing.split import EPOCH, date_of
from processing.synthetic.synthesize import PATTERNS, synthesize, write

ALL = "all"  # the frauds of every pattern
ID, LABEL, PATTERN = "transaction_id", "is_fraud", "pattern"
SHARED = ("test_days", "alerts_per_day")  # of all contracts: recalls within other budgets cannot be compared
DEFAULTS = Hyperparameters()


class Season(NamedTuple):
    """The arguments of `synthesize`."""

    start: date = date(2026, 3, 1)
    days: int = 120
    customers: int = 10_000
    terminals: int = 3_000
    seed: int = 23


SEASON = Season()


def benchmark_synthetic(
    contracts: Mapping[str, Contract],
    season: Season = SEASON,
    *,
    weeks: int = 4,
    validation: bool = False,
    hyperparameters: Hyperparameters = DEFAULTS,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure the models of one or more contracts. The keys of `contracts` name them in the result.

    {"contracts": {name: M}, "folds", "weeks", "frauds", "alerts_per_day", "highest_recall", ...}. M has

    average_precision: over all rows of a week; see `over_folds`
    caught, recall: number and share of the frauds that are among the `alerts_per_day` highest scores of a day, over all
        weeks, in all and by pattern. The recall of a pattern without frauds is None
    features, history_days, label_delay_days: numbers

    frauds: the number of all test weeks, in all and by pattern. highest_recall: that of perfect scores. `progress` gets
    a line for each part. Raises BadInput for contracts that do not fit the data or each other, and for too few days.
    """
    progress("synthesizing")
    season_rows = synthesize(*season, patterns=True)
    published = season_rows.drop([PATTERN])
    test_days, alerts_per_day = _shared(contracts, published.column_names)
    end = (season.start - EPOCH).days + season.days - (weeks * test_days if validation else 0)
    day = time_us(published) // DAY_US
    test = season_rows.filter(pa.array((day >= end - weeks * test_days) & (day < end)))
    frauds = _by_pattern(test)
    results = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "synthetic.parquet"
        write(published, file)
        for name, contract in contracts.items():
            progress(f"{name}: computing features and fitting {weeks} models")
            folds = list(last_weeks(end, contract, weeks))
            rows = _dataset(file, name, contract, folds, len(season_rows))
            results[name] = _measure(rows, folds, contract, hyperparameters, test)
            del rows  # before the next ones are made
    perfect = _caught(test, test[LABEL].to_numpy().astype(np.float64), alerts_per_day)
    return {
        "contracts": results,
        "folds": "validation" if validation else "test",
        "weeks": [[date_of(fold.test[0]).isoformat(), date_of(fold.test[-1]).isoformat()] for fold in folds],
        "frauds": frauds,
        "alerts_per_day": alerts_per_day,
        "highest_recall": perfect[ALL] / frauds[ALL],
        "season": season._asdict() | {"start": season.start.isoformat()},
        "rows": len(season_rows),
        "hyperparameters": asdict(hyperparameters),
        "machine": machine(),
    }


def _shared(contracts: Mapping[str, Contract], columns: Sequence[str]) -> list[int]:
    """The values of SHARED. Raises BadInput for contracts that do not fit the columns or each other."""
    for name, contract in contracts.items():
        if contract.id != ID or (missing := [column for column in contract.columns if column not in columns]):
            problem = f"its columns.id is not {ID!r}" if contract.id != ID else f"they have no column {missing[0]!r}"
            raise BadInput(
                f"the contract {name} does not describe synthetic transactions: {problem}; give a changed copy of the "
                "contract 'transactions'"
            )
    first, *others = contracts
    for other, field in product(others, SHARED):
        one, two = (getattr(contracts[name], field) for name in (first, other))
        if one != two:
            raise BadInput(
                f"the contracts {first} and {other} cannot be compared: {ENTRIES[field]} is {one} and {two}; give them "
                "the same"
            )
    return [getattr(contracts[first], field) for field in SHARED]


def _dataset(file: Path, name: str, contract: Contract, folds: Sequence[Fold], expected: int) -> Dataset:
    """The transactions with the contract's features. Raises BadInput if it refuses some or a fold has too few days."""
    rows = as_dataset(read_transactions(file, contract), contract, f"the contract {name}")
    if rows.rows < expected:
        raise BadInput(
            f"the contract {name} refuses {expected - rows.rows} of {expected} synthetic transactions, so its figures "
            "could not be compared with others; raise amount.maximum"
        )
    for fold in folds:
        if not fold.learnable(rows, contract.train_days):
            raise BadInput(
                f"the days from {rows.period} are too few: the week from {date_of(fold.test.start)}, or the "
                f"{contract.train_days} days that end {contract.label_delay_days} days before it, lack frauds or "
                "legitimate transactions; synthesize more days or more customers, or test on fewer folds"
            )
    return rows


def _measure(
    rows: Dataset, folds: Sequence[Fold], contract: Contract, hyperparameters: Hyperparameters, test: pa.Table
) -> dict[str, Any]:
    """The figures of one contract. `test` has all test rows."""
    scored = score_folds(rows, folds, contract.train_days, hyperparameters)
    indices, score = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    position = pc.index_in(test[ID], pa.array(rows.ids[indices], pa.string()))
    caught, frauds = _caught(test, score[position.to_numpy()], contract.alerts_per_day), _by_pattern(test)
    return {
        "average_precision": over_folds([average_precision_score(rows.y[fold], each) for fold, each in scored]),
        "caught": caught,
        "recall": {kind: caught[kind] / count if count else None for kind, count in frauds.items()},
        "features": rows.X.shape[1],
        "history_days": contract.train_days,
        "label_delay_days": contract.label_delay_days,
    }


def _caught(test: pa.Table, score: Floats, alerts_per_day: int) -> dict[str, int]:
    """The frauds among the highest scores of each day, by pattern. Of equal scores the earliest come first."""
    day = time_us(test) // DAY_US
    order = np.lexsort((-score, day))
    first_of_day = np.searchsorted(day[order], day[order])
    return _by_pattern(test.take(order[np.arange(len(order)) - first_of_day < alerts_per_day]))


def _by_pattern(rows: pa.Table) -> dict[str, int]:
    """The number of frauds, in all and by pattern."""
    counts = Counter(rows[PATTERN].drop_null().to_pylist())
    return {ALL: counts.total(), **{pattern: counts[pattern] for pattern in PATTERNS}}


def synthetic_table(result: dict[str, Any]) -> str:
    """The result of `benchmark_synthetic` as lines of text."""
    contracts, season, frauds = result["contracts"], result["season"], result["frauds"]
    width = max(18, *(len(name) + 2 for name in contracts))

    def line(name: str, cells: Iterable[str], count: str = "") -> str:
        return f"{name:<30}{count:>8}" + "".join(f"{cell:>{width}}" for cell in cells)

    precisions = [measures["average_precision"] for measures in contracts.values()]
    lines = [
        line("", contracts, "frauds"),
        line("features", (str(measures["features"]) for measures in contracts.values())),
        line("average precision", map(with_deviation, precisions)),
    ]
    for i, (first, last) in enumerate(result["weeks"]):
        lines.append(line(f"  {first} to {last}", (f"{precision['folds'][i]:.4f}" for precision in precisions)))
    for kind, count in frauds.items():
        name = f"recall at {result['alerts_per_day']} alerts a day" if kind == ALL else f"  {kind.replace('_', ' ')}s"
        recalls = (measures["recall"][kind] for measures in contracts.values())
        lines.append(line(name, ("-" if recall is None else f"{recall:.4f}" for recall in recalls), f"{count:,}"))
    return "\n".join(
        [
            *lines,
            f"{result['folds']} folds; average precision: mean ± standard deviation, and each week's",
            f"recall: share of the frauds among each day's {result['alerts_per_day']} highest scores; perfect scores "
            f"would reach {result['highest_recall']:.4f}",
            f"synthetic transactions: {result['rows']:,} in {season['days']} days from {season['start']}, of "
            f"{season['customers']:,} customers at {season['terminals']:,} terminals, seed {season['seed']}",
        ]
    )
