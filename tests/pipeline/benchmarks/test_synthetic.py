"""The synthetic benchmark: its weeks, its figures by fraud pattern, what it compares and what it refuses."""

import json
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from pipeline.benchmarks import synthetic
from pipeline.benchmarks.synthetic import ALL, Season, benchmark_synthetic, synthetic_table
from pipeline.command.main import app
from pipeline.estimators.hyperparameters import Hyperparameters
from processing.arrays import Floats
from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.synthetic.synthesize import PATTERNS, synthesize

SEASON = Season(date(2026, 3, 1), days=60, customers=400, terminals=60, seed=5)
SHIPPED = contracts.load("transactions")
ALERTS, DELAY, HISTORY, WEEK = 3, 4, 20, 7


class ByAmount(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A model whose score is the amount, and which keeps what it was fitted on."""

    fitted: ClassVar[list[tuple[int, int]]] = []  # rows, frauds

    def fit(self, X: Floats, y: Any) -> "ByAmount":  # noqa: N803 (scikit-learn's name)
        self.fitted.append((len(y), int(y.sum())))
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Floats) -> Floats:  # noqa: N803
        return np.column_stack([1 - X[:, 0] / 1e6, X[:, 0] / 1e6])


def by_amount(hyperparameters: Hyperparameters) -> ByAmount:
    return ByAmount()


BY_AMOUNT = Hyperparameters(estimator=f"{__name__}:by_amount")


def changed(*changes: tuple[str, str]) -> Contract:
    """The shipped contract with some of its text replaced."""
    text = SHIPPED.text
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return contracts.parse(text)


SHORT = changed(
    ("alerts_per_day = 40", f"alerts_per_day = {ALERTS}"),
    ("delay_days = 7", f"delay_days = {DELAY}"),
    ("train_days = 60", f"train_days = {HISTORY}"),
)


def rows_of(first: date, days: int) -> list[dict[str, Any]]:
    """The transactions of some days, with their patterns."""
    return list(synthesize(first, days, *SEASON[2:], patterns=True).to_pylist())


def measure(season: Season = SEASON, **options: Any) -> dict[str, Any]:
    return benchmark_synthetic({"mine": SHORT}, season, weeks=2, hyperparameters=BY_AMOUNT, **options)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return measure()


def test_the_test_weeks_end_with_the_data_and_the_validation_weeks_just_before_them(result: dict[str, Any]) -> None:
    assert result["weeks"] == [["2026-04-16", "2026-04-22"], ["2026-04-23", "2026-04-29"]]
    assert measure(validation=True)["weeks"] == [["2026-04-02", "2026-04-08"], ["2026-04-09", "2026-04-15"]]


def test_a_model_learns_from_the_history_that_ends_a_label_delay_before_its_week() -> None:
    ByAmount.fitted.clear()
    result = measure()
    expected = []
    for first, _ in result["weeks"]:
        rows = rows_of(date.fromisoformat(first) - timedelta(days=DELAY + HISTORY), HISTORY)
        expected.append((len(rows), sum(row["is_fraud"] for row in rows)))
    assert sorted(ByAmount.fitted) == sorted(expected)
    measures = result["contracts"]["mine"]
    assert (measures["history_days"], measures["label_delay_days"]) == (HISTORY, DELAY)


def test_recall_counts_the_frauds_of_each_pattern_among_the_highest_scores_of_each_day(result: dict[str, Any]) -> None:
    first = date.fromisoformat(result["weeks"][0][0])
    frauds, caught, perfect = (dict.fromkeys([ALL, *PATTERNS], 0) for _ in range(3))
    for day in range(2 * WEEK):
        rows = rows_of(first + timedelta(days=day), 1)
        alerts = sorted(rows, key=lambda row: -row["amount"])[:ALERTS]
        best = sorted(rows, key=lambda row: -row["is_fraud"])[:ALERTS]
        for counts, chosen in ((frauds, rows), (caught, alerts), (perfect, best)):
            for row in chosen:
                if row["pattern"]:
                    counts[ALL] += 1
                    counts[row["pattern"]] += 1
    measures = result["contracts"]["mine"]
    assert result["frauds"] == frauds
    assert measures["caught"] == caught
    assert measures["recall"] == {kind: caught[kind] / frauds[kind] if frauds[kind] else None for kind in frauds}
    assert result["highest_recall"] == perfect[ALL] / frauds[ALL]
    assert 0 < caught[ALL] < perfect[ALL] < frauds[ALL]  # otherwise the comparison would prove little


def test_average_precision_is_that_of_all_rows_of_each_week(result: dict[str, Any]) -> None:
    precisions = []
    for first, _ in result["weeks"]:
        rows = rows_of(date.fromisoformat(first), WEEK)
        score = [row["amount"] for row in rows]
        precisions.append(average_precision_score([row["is_fraud"] for row in rows], score))
    figure = result["contracts"]["mine"]["average_precision"]
    assert figure["folds"] == pytest.approx(precisions)
    assert figure["mean"] == pytest.approx(np.mean(precisions))
    assert figure["standard_deviation"] == pytest.approx(np.std(precisions))


def test_each_contract_is_measured_with_its_own_features() -> None:
    """Without entities there are no windows, and amount, hour and channel alone detect less."""
    blind = contracts.parse(SHORT.text[: SHORT.text.index("[[entity]]")] + SHORT.text[SHORT.text.index("[split]") :])
    quick = Hyperparameters(max_iterations=30, learning_rate=0.2)
    result = benchmark_synthetic({"without": blind, "with": SHORT}, SEASON, weeks=1, hyperparameters=quick)
    without, full = result["contracts"]["without"], result["contracts"]["with"]
    assert (without["features"], full["features"]) == (len(FeatureSet(blind).names), len(FeatureSet(SHORT).names))
    assert without["average_precision"]["mean"] < full["average_precision"]["mean"] - 0.02


def test_the_table_has_every_figure_of_every_contract() -> None:
    progress: list[str] = []
    result = benchmark_synthetic(
        {"before": SHORT, "after": SHORT}, SEASON, weeks=2, hyperparameters=BY_AMOUNT, progress=progress.append
    )
    assert json.loads(json.dumps(result)) == result
    assert [line.split(":")[0] for line in progress] == ["synthesizing", "before", "after"]
    lines = synthetic_table(result).splitlines()
    assert lines[0].split() == ["frauds", "before", "after"]
    cells = [line.split() for line in lines]
    for measures in result["contracts"].values():
        precision = measures["average_precision"]
        assert any(row[:2] == ["average", "precision"] and f"{precision['mean']:.4f}" in row for row in cells)
        for (first, last), value in zip(result["weeks"], precision["folds"], strict=True):
            assert [first, "to", last, *[f"{value:.4f}"] * 2] in cells
        for kind, recall in measures["recall"].items():
            name = ["recall", "at", "3", "alerts", "a", "day"] if kind == ALL else f"{kind}s".split("_")
            assert [*name, str(result["frauds"][kind]), *["-" if recall is None else f"{recall:.4f}"] * 2] in cells
    assert f"{result['rows']:,} in 60 days from 2026-03-01" in lines[-1]


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (contracts.load("handbook"), "mine does not describe synthetic transactions: its columns.id is not"),
        (changed(('id = "transaction_id"', "")), "mine does not describe synthetic transactions: its columns.id"),
        (changed(("numeric = []", 'numeric = ["lat"]')), "they have no column 'lat'"),
        (changed(("numeric = []", 'numeric = ["pattern"]')), "they have no column 'pattern'"),
        (SHORT, "costs.alerts_per_day is 40 and 3; give them the same"),
        (changed(("test_days = 7", "test_days = 5")), "split.test_days is 7 and 5; give them the same"),
        (
            changed(("maximum = 100000.0", "maximum = 1000.0")),
            r"mine refuses \d of \d+ synthetic transactions, .*; raise amount.maximum",
        ),
    ],
)
def test_a_contract_that_cannot_be_compared_is_refused_with_the_reason(contract: Contract, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        benchmark_synthetic({"shipped": SHIPPED, "mine": contract}, SEASON, weeks=1, hyperparameters=BY_AMOUNT)


@pytest.mark.parametrize("days", [10, 20])
def test_too_few_days_for_the_folds_are_refused_with_what_to_change(days: int) -> None:
    with pytest.raises(BadInput, match=r"are too few: .* synthesize more days or more customers, or test on fewer"):
        measure(season=SEASON._replace(days=days))


def test_the_command_compares_the_contracts_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "benchmark_synthetic", partial(benchmark_synthetic, hyperparameters=BY_AMOUNT))
    file = tmp_path / "mine.toml"
    file.write_text(SHIPPED.text.replace("delay_days = 7", "delay_days = 3"))
    season = ["--start", "2026-04-01", "--days", "50", "--customers", "300", "--terminals", "30", "--seed", "5"]
    command = ["benchmark", "synthetic", *season, "--contract", "transactions", "--contract", str(file), "--folds", "1"]
    result = json.loads(CliRunner().invoke(app, [*command, "--validation", "--json"]).stdout)
    assert {name: each["label_delay_days"] for name, each in result["contracts"].items()} == {
        "transactions": 7,
        str(file): 3,
    }
    assert result["season"] == {"start": "2026-04-01", "days": 50, "customers": 300, "terminals": 30, "seed": 5}
    assert (result["folds"], result["weeks"]) == ("validation", [["2026-05-07", "2026-05-13"]])
    table = CliRunner().invoke(app, command).stdout
    assert "2026-05-14 to 2026-05-20" in table
