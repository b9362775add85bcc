"""Experiments: the features of any contract, compared with the champion on days that no test has seen."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import ROOT
from rich.console import Console
from transactions_home import home_with, with_champion

from pipeline.data.transactions import as_dataset, read_transactions
from pipeline.experiments import Experiment
from pipeline.experiments import experiment as module
from processing.contract import Contract
from processing.contracts.home_contract import pending
from processing.contracts.reader import load, parse
from processing.durations import DAY_US
from processing.errors import BadInput, Conflict
from processing.features.feature_set import FeatureSet
from processing.split import EPOCH, date_of
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.run_code import load_code
from processing.synthetic.synthesize import synthesize

START, DAYS = date(2026, 3, 1), 42
SMALL = load(ROOT / "notebooks/small.toml")
FAST = {"MaxIterations": "8", "MaxLeafNodes": "4", "LearningRate": "0.3"}
SERVED = {"max_iterations": 8, "max_leaf_nodes": 4, "learning_rate": 0.3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> LocalHome:
    """A home with six weeks of transactions and a champion."""
    folder = tmp_path_factory.mktemp("experiment")
    return with_champion(home_with(folder, synthesize(START, DAYS, 600, 200, 6), SMALL), hyperparameters=SERVED)


def wider(home: LocalHome) -> Experiment:
    """Every kind of change at once: a window, all aggregates, a pair, an expression."""
    experiment = Experiment(home).with_entity(
        "customer",
        windows_days=None,
        windows=["10m", "6h", "7d"],
        aggregates=["amount", "extremes", "recency", "share:channel", "distinct:terminal_id"],
    )
    experiment = experiment.with_entity("pair", columns=["customer_id", "terminal_id"], windows=["1d", "20d"])
    return experiment.with_feature("amount_to_most", "amount / customer.amount_max_7d", says="{value:.1f}x the most")


@pytest.mark.slow
def test_an_experiment_starts_as_the_champion_and_differs_from_it_in_nothing(home: LocalHome) -> None:
    experiment = Experiment(home)
    assert (experiment.contract, experiment.settings) == (SMALL, FAST)
    compared = experiment.compare(folds=2)
    for measure in (compared.average_precision, compared.cost_per_day, compared.recall_at_budget):
        assert measure.differences == (0.0, 0.0)
        assert measure.error == 0.0
    assert compared.changes == ()
    assert "the experiment changes nothing" in str(compared)


def test_features_are_those_of_all_rows_at_once_however_they_are_cut_into_days(home: LocalHome) -> None:
    contract = wider(home).contract
    rows = read_transactions(home.folder.parent / "raw.parquet", contract)
    expected = as_dataset(rows, contract, "the rows")
    table = wider(home).features()
    assert table["transaction_id"].to_pylist() == list(expected.ids)
    for i, name in enumerate(FeatureSet(contract).names):
        assert np.array_equal(table[name].to_numpy(), expected.X[:, i], equal_nan=True), name


def test_features_of_some_days_are_the_same_as_among_all_days(home: LocalHome) -> None:
    experiment = wider(home)
    first, last = date(2026, 4, 1), date(2026, 4, 2)
    some, every = experiment.features(first, last), experiment.features()
    day = every["event_time"].cast("int64").to_numpy() // DAY_US
    inside = (day >= (first - EPOCH).days) & (day <= (last - EPOCH).days)
    assert some["transaction_id"].to_pylist() == every.filter(inside)["transaction_id"].to_pylist()
    for name in FeatureSet(experiment.contract).names:
        assert np.array_equal(some[name].to_numpy(), every[name].to_numpy()[inside], equal_nan=True), name
    assert len(experiment.features(date(2027, 1, 1))) == 0


@pytest.mark.slow
def test_only_validation_days_are_compared_and_pairs_are_of_the_same_rows(home: LocalHome) -> None:
    compared = wider(home).compare(folds=2)
    test_week = (START - EPOCH).days + DAYS - SMALL.test_days
    assert [fold.test.stop for fold in compared.folds] == [test_week - 7, test_week]
    for ours, theirs in zip(compared.metrics, compared.champion_metrics, strict=True):
        assert (ours["rows"], ours["frauds"]) == (theirs["rows"], theirs["frauds"])
        assert ours["cost_of_no_alerts"] == theirs["cost_of_no_alerts"]
    measure = compared.average_precision
    assert measure.differences == tuple(np.subtract(measure.experiment, measure.champion))
    assert measure.error == pytest.approx(abs(measure.differences[0] - measure.differences[1]) / 2)


@pytest.mark.slow
def test_a_comparison_says_what_changed_and_how_much_it_matters(home: LocalHome) -> None:
    compared = wider(home).with_settings(MaxIterations=12).compare(folds=1)
    text = str(compared)
    assert "customer: window '10m' is new" in text
    assert "feature 'amount_to_most' is new: amount / customer.amount_max_7d" in text
    assert "- MaxIterations is 12 (was 8)" in text
    assert f"{compared.average_precision.difference:+.4f}" in text
    assert "±" not in text  # a single fold has no deviation
    assert np.isnan(compared.average_precision.error)
    assert str(date_of(compared.folds[0].test[0])) in text


WOODS = """
from sklearn.ensemble import ExtraTreesClassifier
from leaves import SIZE

def make(hyperparameters):
    return ExtraTreesClassifier(hyperparameters.max_iterations, min_samples_leaf=SIZE, random_state=0)
"""


@pytest.mark.slow
def test_an_estimator_is_compared_and_run_with_its_code_as_it_was_when_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "woods.py").write_text(WOODS)
    (tmp_path / "leaves.py").write_text("SIZE = 3")
    home = home_with(tmp_path, synthesize(START, 30, 300, 100, 6), SMALL)
    parameters: list[dict[str, str]] = []
    monkeypatch.setattr(module, "run_and_report", lambda *arguments: parameters.append(arguments[2]) or {})
    with_champion(home, hyperparameters=SERVED)
    experiment = Experiment(home).with_estimator(f"{tmp_path}/woods.py:make")
    (tmp_path / "leaves.py").write_text("raise SystemError('changed since')")
    compared = experiment.compare(folds=1)
    assert compared.average_precision.experiment != compared.average_precision.champion
    assert compared.changes[-2:] == (
        "Estimator is woods:make (was pipeline.estimators.trees:trees)",
        "the estimator's own code is another",
    )
    experiment.apply_and_run()
    [given] = parameters
    assert given == FAST | {"Estimator": "woods:make", "Code": experiment.candidate.code.digest}
    assert load_code(home, given["Code"]) == experiment.candidate.code.to_bytes()

    manifest = {"hyperparameters": {**SERVED, "estimator": "woods:make"}}
    with_champion(home, files={"code.zip": experiment.candidate.code.to_bytes()}, **manifest)
    assert Experiment(home).compare(folds=1).average_precision.experiment == compared.average_precision.experiment
    assert Experiment(home).with_estimator("pipeline.estimators.trees:trees").settings == FAST


@pytest.mark.slow
def test_the_champion_keeps_its_own_contract_and_is_trained_once_for_the_same_folds(
    home: LocalHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Contract] = []
    real = module.score_folds

    def scored(rows: Any, candidate: Any, folds: Any) -> Any:
        trained.append(candidate.contract)
        return real(rows, candidate, folds)

    monkeypatch.setattr(module, "score_folds", scored)
    experiment = Experiment(home)
    narrow = experiment.with_entity("terminal", windows_days=[1])
    narrow.compare(folds=1)
    experiment.with_settings(MaxIterations=5).compare(folds=1)
    assert trained == [narrow.contract, SMALL, SMALL]


def test_an_experiment_never_changes(home: LocalHome) -> None:
    experiment = Experiment(home)
    wider(home)
    experiment.with_settings(MaxIterations=5)
    experiment.without("terminal")
    assert (experiment.contract, experiment.settings) == (SMALL, FAST)
    assert pending(home) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.with_entity("customer", windows=["1h"]), "'windows_days' and 'windows'"),
        (lambda e: e.with_entity("customer", windows_days=[1, 1]), "has 1 twice"),
        (lambda e: e.with_entity("device", columns=["device_id"]), "windows"),
        (lambda e: e.with_feature("odd", "amount / nothing"), "nothing"),
        (lambda e: e.with_feature("amount", "amount"), "cannot name a feature"),
        (lambda e: e.with_contract("name = 1"), "'columns' is missing"),
        (lambda e: e.without("merchant"), "'merchant'"),
        (lambda e: e.with_settings(MaxLeaves=3), "did you mean 'MaxLeafNodes'"),
        (lambda e: e.with_settings(MaxLeafNodes="few"), "max_leaf_nodes is 'few'"),
        (lambda e: e.with_estimator("woods.py:make"), "no file or package woods.py"),
        (lambda e: e.compare(folds=0), "folds is 0, expected 1 or more"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_at_once(home: LocalHome, change: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        change(Experiment(home))


def test_columns_that_the_stored_transactions_lack_are_named(home: LocalHome) -> None:
    experiment = Experiment(home).with_entity("device", column="device_id", windows=["1d"])
    with pytest.raises(BadInput, match=r"the contract needs .*device"):
        experiment.features()


def test_without_a_champion_the_defaults_stand_for_it(tmp_path: Path) -> None:
    experiment = Experiment(home_with(tmp_path, synthesize(START, 1, 20, 10, 6), SMALL))
    assert (experiment.champion.candidate.contract, experiment.settings) == (SMALL, {})
    assert "default hyperparameters" in experiment.champion.name


def test_a_home_without_enough_days_says_so(tmp_path: Path) -> None:
    home = home_with(tmp_path, synthesize(START, 12, 300, 100, 6), SMALL)
    with pytest.raises(BadInput, match="validation fold"):
        Experiment(home).compare()
    with pytest.raises(BadInput, match="no home at"):
        Experiment(open_home(tmp_path / "nowhere"))


def test_rows_that_come_in_during_a_comparison_are_a_conflict(home: LocalHome, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(home)
    ids, scored = experiment.champion.score, 0
    monkeypatch.setattr(type(experiment.champion), "score", lambda *args: (ids(*args[1:])[0][:-1], scored))
    with pytest.raises(Conflict, match="compare again"):
        experiment.compare(folds=1)


def test_the_last_call_proposes_the_contract_and_runs_with_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_with(tmp_path, synthesize(START, 2, 20, 10, 6), SMALL)
    calls: list[Any] = []
    monkeypatch.setattr(module, "run_and_report", lambda *arguments: calls.append(arguments) or {"run": "r"})
    experiment = Experiment(home).with_entity("terminal", windows_days=[1, 7, 9]).with_settings(MaxIterations=7)
    assert experiment.apply_and_run(ModelApprovalStatus="PendingManualApproval") == {"run": "r"}
    [(where, _, parameters)] = calls
    assert (where, parameters) == (home, {"MaxIterations": "7", "ModelApprovalStatus": "PendingManualApproval"})
    proposed = pending(home)
    assert proposed is not None
    assert proposed.text == experiment.contract.text
    assert Experiment(home).contract == parse(experiment.contract.text)  # what the next run puts in force
    with pytest.raises(BadInput, match="would falsify"):
        Experiment(home).without("terminal").apply_and_run()
    assert len(calls) == 1


def test_a_home_in_aws_runs_the_pipeline_that_is_deployed_for_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_with(tmp_path, synthesize(START, 2, 20, 10, 6), SMALL)
    outputs, calls = {"HomeUrl": "s3://another/home"}, list[Any]()
    monkeypatch.setattr(module, "LocalHome", int)  # so that no home is one on this machine
    monkeypatch.setattr(module, "find_target", lambda: "the stack")
    monkeypatch.setattr(module, "deployed_outputs", lambda target: outputs)
    monkeypatch.setattr(module, "run_on_aws", lambda *arguments: calls.append(arguments) or {})
    experiment = Experiment(home).with_entity("terminal", windows_days=[1, 7, 9])
    with pytest.raises(BadInput, match="runs in s3://another/home"):
        experiment.apply_and_run()
    assert pending(home) is None
    outputs["HomeUrl"] = home.url
    experiment.apply_and_run(Console(quiet=True))
    [(target, settings, _)] = calls
    assert (target, settings) == ("the stack", {})
    assert pending(home) is not None
