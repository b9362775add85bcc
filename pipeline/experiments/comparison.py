"""An experiment and the champion on validation folds: both trained as a run does, measured on the same rows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold, last_weeks, usable_weeks
from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.own_code import NO_CODE, OwnCode
from pipeline.estimators.predict import scores
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.model_metrics import measure_model
from pipeline.experiments.home_rows import HomeRows
from pipeline.training.fit import fit_with_threshold
from processing.contract import Contract
from processing.contracts.contract_change import ContractChange
from processing.errors import BadInput, Conflict
from processing.split import date_of


class Candidate(NamedTuple):
    """What a model is trained from."""

    contract: Contract
    hyperparameters: Hyperparameters
    code: OwnCode = NO_CODE


class Measure(NamedTuple):
    """One measure of both models: its value on each fold."""

    name: str
    champion: tuple[float, ...]
    experiment: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Experiment minus champion, fold by fold."""
        return tuple(ours - theirs for ours, theirs in zip(self.experiment, self.champion, strict=True))

    @property
    def difference(self) -> float:
        """The mean of the differences."""
        return float(np.mean(self.differences))

    @property
    def error(self) -> float:
        """The standard error of that mean; NaN with a single fold."""
        folds = len(self.differences)
        return float(np.std(self.differences, ddof=1) / np.sqrt(folds)) if folds > 1 else float("nan")

    def __str__(self) -> str:
        digits = 2 if self.name == "cost_per_day" else 4
        values = [f"{np.mean(each):>12.{digits}f}" for each in (self.champion, self.experiment)]
        error = "" if np.isnan(self.error) else f" ± {self.error:.{digits}f}"
        return f"{self.name.replace('_', ' '):<20}{''.join(values)}{f'{self.difference:+.{digits}f}{error}':>22}"


@dataclass(frozen=True)
class FoldComparison:
    """The experiment and the champion on the same folds. `str` gives it as a table.

    champion: its version, or in words what stands for it
    metrics, champion_metrics: those of `pipeline.evaluation.model_metrics.measure_model`, of each fold
    changes: what the experiment changes, in words
    """

    champion: str
    folds: tuple[Fold, ...]
    metrics: tuple[dict[str, Any], ...]
    champion_metrics: tuple[dict[str, Any], ...]
    changes: tuple[str, ...]

    @cached_property
    def average_precision(self) -> Measure:
        return self._measure("average_precision")

    @cached_property
    def cost_per_day(self) -> Measure:
        """The expected cost of the decisions, in the currency of the amounts; each model at its own threshold."""
        both = (tuple(each["cost"] / each["days"] for each in some) for some in (self.champion_metrics, self.metrics))
        return Measure("cost_per_day", *both)

    @cached_property
    def recall_at_budget(self) -> Measure:
        """The share of frauds among the highest scores that the contract's `alerts_per_day` cover."""
        return self._measure("recall_at_budget")

    def _measure(self, name: str) -> Measure:
        both = (tuple(float(each[name]) for each in some) for some in (self.champion_metrics, self.metrics))
        return Measure(name, *both)

    def __str__(self) -> str:
        first, last = date_of(self.folds[0].test[0]), date_of(self.folds[-1].test[-1])
        count = len(self.folds)
        return "\n".join(
            [
                f"{'':<20}{'champion':>12}{'experiment':>12}{'difference':>22}",
                *map(str, (self.average_precision, self.cost_per_day, self.recall_at_budget)),
                f"means over {count} validation fold{'' if count == 1 else 's'}, {first} to {last}; paired differences"
                f"{'' if count == 1 else ' ± standard error'}",
                f"champion: {self.champion}",
                *(f"- {line}" for line in self.changes or ["the experiment changes nothing"]),
            ]
        )


class Folds(NamedTuple):
    """Validation folds, and the days of all rows that they need."""

    folds: tuple[Fold, ...]
    days: range


def choose_folds(rows: HomeRows, experiment: Contract, champion: Contract, count: int) -> Folds:
    """Up to `count` folds of the experiment's test length and label delay, before the test days of either contract.

    Raises BadInput if no fold has frauds and legitimate transactions both to train and to test on.
    """
    if count < 1:
        raise BadInput(f"folds is {count}, expected 1 or more")
    before = min(rows.test_start(contract) for contract in (experiment, champion))
    first = next(last_weeks(before, experiment, count)).train_end
    days = range(first - max(experiment.train_days, champion.train_days), before)
    return Folds(tuple(usable_weeks(rows.dataset(experiment, days), before, experiment, count)), days)


def score_folds(rows: HomeRows, candidate: Candidate, folds: Folds) -> tuple[Dataset, list[ModelScores]]:
    """All rows under the candidate's contract, and for each fold the scores of its test rows, with the threshold.

    On each fold a model is trained, and its threshold chosen, as in the Train step.
    """
    contract, data = candidate.contract, rows.dataset(candidate.contract, folds.days)
    scored = []
    with candidate.code.importable():
        for fold in folds.folds:
            training = fold.train(data, contract.train_days)
            fitted = fit_with_threshold(training, contract, candidate.hyperparameters)
            score = scores(fitted.model, data.X[fold.test_rows(data, None)])
            scored.append(ModelScores(score, fitted.choice.threshold))
    return data, scored


def measure_folds(
    data: Dataset, contract: Contract, folds: Sequence[Fold], scored: Sequence[ModelScores]
) -> tuple[dict[str, Any], ...]:
    """The metrics of the scores on each fold. Costs and the alert budget are the contract's, whoever scored."""
    indices = (fold.test_rows(data, None) for fold in folds)
    tests = (data.part(slice(int(each[0]), int(each[-1]) + 1)) for each in indices)
    return tuple(
        measure_model(test, one.score, one.threshold, contract) for test, one in zip(tests, scored, strict=True)
    )


def check_same_rows(data: Dataset, ids: Sequence[str]) -> None:
    """Raise Conflict if rows came in between: the differences would not be paired."""
    if not np.array_equal(data.ids, ids):
        raise Conflict("the home's transactions changed during the comparison; compare again")


def changes_between(before: Candidate, after: Candidate) -> list[str]:
    """What differs between two candidates, in words."""
    old, new = asdict(before.hyperparameters), asdict(after.hyperparameters)
    settings = [f"{HYPERPARAMETERS[key][0]} is {new[key]} (was {old[key]})" for key in new if new[key] != old[key]]
    code = ["the estimator's own code is another"] if before.code != after.code else []
    return [*ContractChange(before.contract, after.contract).lines, *settings, *code]
