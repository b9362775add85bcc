"""Sets are read strictly and split by time, and the Train step writes a model with the record of its training."""

import json

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_sets import CONTRACT, FIRST_DAY, date, rows_table, write_code, write_contract, write_set
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from pipeline.data import dataset
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.predict import scores
from pipeline.evaluation.threshold import choose
from pipeline.scorer.packing import pack_and_prove
from pipeline.steps import train as step
from pipeline.training.fit import train
from pipeline.training.validation_split import split_validation
from processing.errors import BadInput, Damaged
from processing.features.feature_set import FeatureSet

QUICK = Hyperparameters(max_iterations=20)


def read(folder, **options):
    return dataset.read(write_set(folder, rows_table(**options)), CONTRACT)


def test_a_set_does_not_depend_on_how_its_rows_are_spread_over_files(tmp_path):
    table = rows_table()
    whole = dataset.read(write_set(tmp_path / "whole", table), CONTRACT)
    shuffled = table.take(np.random.default_rng(1).permutation(len(table)))
    columns = shuffled.column_names[::-1]
    for i in range(3):
        folder = tmp_path / "parts" / f"day={i}"
        folder.mkdir(parents=True)
        pq.write_table(shuffled.slice(i * 400, 400).select(columns), folder / "part.parquet")
    (tmp_path / "parts" / "_SUCCESS.parquet").write_text("no data")
    parts = dataset.read(tmp_path / "parts", CONTRACT)
    assert parts.digest == whole.digest
    assert np.array_equal(parts.X, whole.X, equal_nan=True)
    assert list(parts.ids) == list(whole.ids) == table["transaction_id"].to_pylist()
    assert np.array_equal(whole.amount, table["amount_minor"].to_numpy() / 100)
    assert np.array_equal(whole.X[:, 0], table["amount"].to_numpy())
    assert (whole.day[0], whole.day[-1]) == (FIRST_DAY, FIRST_DAY + 19)


@pytest.mark.parametrize("column", ["is_fraud", "amount_minor", "customer", "customer_count_7d"])
def test_a_changed_value_changes_the_digest(tmp_path, column):
    table = rows_table()
    values = table[column].to_pylist()
    values[7] = {"is_fraud": 1 - values[7] if column == "is_fraud" else 0, "customer": "cx"}.get(column, 12345)
    place = table.column_names.index(column)
    changed = table.set_column(place, column, pa.array(values, table[column].type))
    before = dataset.read(write_set(tmp_path / "before", table), CONTRACT).digest
    assert dataset.read(write_set(tmp_path / "after", changed), CONTRACT).digest != before


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.drop_columns(["customer"]), "part-0.parquet lacks the column customer"),
        (lambda t: with_column(t, "amount_minor", t["amount"]), "amount_minor is double, expected int64"),
        (lambda t: t.slice(0, 0), "has no rows"),
        (lambda t: with_column(t, "is_fraud", pa.array([0] * len(t), pa.int8())), "1200 rows but no frauds"),
        (
            lambda t: with_column(t, "is_fraud", pa.array([0, 2] * (len(t) // 2), pa.int32())),
            "values other than 0 and 1",
        ),
        (lambda t: with_column(t, "is_fraud", pa.array([0, 999] * (len(t) // 2), pa.int32())), "is_fraud"),
        (
            lambda t: with_column(t, "is_fraud", pa.array([1, None] * (len(t) // 2), pa.int8())),
            "600 rows but no legitimate transactions",
        ),
        (
            lambda t: with_column(t, "transaction_id", pa.array(["x"] * len(t))),
            r"holds 1 transaction\(s\) more than once",
        ),
    ],
)
def test_an_invalid_set_is_refused_with_the_fault_and_the_file(tmp_path, damage, message):
    write_set(tmp_path, damage(rows_table()))
    with pytest.raises(BadInput, match=message) as refused:
        dataset.read(tmp_path, CONTRACT)
    assert str(tmp_path) in str(refused.value)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_text("id,amount")
    with pytest.raises(Damaged, match=r"a\.parquet is damaged"):
        dataset.read(tmp_path, CONTRACT)


@pytest.mark.parametrize(("days", "validation_days", "gap"), [(20, 4, 2), (30, 4, 2), (4, 1, 0), (2, 1, 0)])
def test_validation_is_the_end_of_the_training_set_a_label_delay_after_the_fitted_rows(
    tmp_path, days, validation_days, gap
):
    rows = read(tmp_path, days=days, per_day=150)
    split = split_validation(rows, CONTRACT)
    validation, fitted = rows.day[split.start :], rows.day[: split.fit_end]
    assert set(validation) == set(range(FIRST_DAY + days - validation_days, FIRST_DAY + days))
    assert split.gap_days == gap == validation[0] - fitted[-1] - 1


def test_a_single_day_is_split_by_rows(tmp_path):
    rows = read(tmp_path, days=1, per_day=500)
    split = split_validation(rows, CONTRACT)
    assert split.fit_end == split.start == 400


def test_validation_starts_earlier_when_its_days_hold_no_fraud(tmp_path):
    table = rows_table()
    frauds = table["is_fraud"].to_numpy().copy()
    frauds[-6 * 60 :] = 0
    rows = dataset.read(write_set(tmp_path, with_column(table, "is_fraud", pa.array(frauds, pa.int8()))), CONTRACT)
    split = split_validation(rows, CONTRACT)
    assert rows.y[split.start :].any()
    assert split.start < rows.rows - 6 * 50


def test_too_few_frauds_to_split_are_refused(tmp_path):
    table = rows_table()
    one = pa.array([1] + [0] * (len(table) - 1), pa.int8())
    rows = dataset.read(write_set(tmp_path, with_column(table, "is_fraud", one)), CONTRACT)
    with pytest.raises(BadInput, match="1 frauds in 1200 rows, 2024-10-04 to 2024-10-23"):
        split_validation(rows, CONTRACT)


@pytest.mark.parametrize("alerts_per_day", [0, 3])
def test_the_threshold_is_chosen_on_validation_rows_the_first_model_never_saw(tmp_path, alerts_per_day):
    rows = read(tmp_path)
    model, training = train(rows, CONTRACT, QUICK, alerts_per_day)
    split = split_validation(rows, CONTRACT)
    first, later = build_estimator(QUICK), rows.part(slice(split.start, None))
    first.fit(rows.X[: split.fit_end], rows.y[: split.fit_end])
    score = scores(first, later.X)
    choice, method = choose(later.y, later.amount, score, later.day, alerts_per_day, CONTRACT)
    assert training["threshold"] == choice.threshold
    assert training["threshold_choice"]["method"] == method
    assert training["validation"]["cost"] == pytest.approx(choice.cost)
    refitted = build_estimator(QUICK).fit(rows.X, rows.y)
    assert np.array_equal(scores(model, rows.X), scores(refitted, rows.X))


def test_the_step_writes_the_model_and_its_training_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    write_set(tmp_path / "input/data/train", rows_table())
    write_contract(tmp_path / "input/data/contract")
    write_code(tmp_path / "input/data/code")
    (tmp_path / "input/config").mkdir()
    (tmp_path / "input/config/hyperparameters.json").write_text('{"max_iterations": "20"}')
    step.main()
    training = json.loads((tmp_path / "model/training.json").read_text())
    model = joblib.load(tmp_path / "model/model.joblib")
    assert training["features"] == list(FeatureSet(CONTRACT).names)
    assert training["contract"] == {"name": "made-up", "digest": CONTRACT.digest}
    assert training["window"] == {"first_day": date(FIRST_DAY), "last_day": date(FIRST_DAY + 19)}
    assert training["rows"] == 1200
    assert training["hyperparameters"]["max_iterations"] == 20
    assert training["libraries"]["scikit-learn"]
    assert training["validation"]["average_precision"] > 0.5
    assert not hasattr(model, "feature_names_in_")
    assert "threshold" in capsys.readouterr().out


def forest(hyperparameters):
    return RandomForestClassifier(hyperparameters.max_iterations, random_state=hyperparameters.random_seed)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_another_estimator_is_trained_recorded_and_served_unchanged(tmp_path):
    rows = read(tmp_path)
    estimator = f"{__name__}:forest"
    other = Hyperparameters.from_strings({"max_iterations": "20", "estimator": estimator})
    model, training = train(rows, CONTRACT, other)
    assert type(model) is RandomForestClassifier
    assert training["hyperparameters"]["estimator"] == estimator
    assert training["validation"]["average_precision"] > 0.3
    packing = pack_and_prove(model, rows.X)
    assert packing.scorer is None
    assert "RandomForestClassifier cannot be packed" in packing.reason


def regressor(hyperparameters):
    return Ridge()


def a_class(hyperparameters):
    return RandomForestClassifier


def without_probabilities(hyperparameters):
    return LinearSVC()


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("forest", "give it as module:factory"),
        ("nowhere.at_all:forest", "No module named 'nowhere'"),
        ("pipeline.estimators.trees:tree", "has no attribute 'tree'"),
        ("", "give it as module:factory"),
        ("json:dumps", "failed when called with Hyperparameters"),
        (f"{__name__}:regressor", "returned a Ridge, expected a classifier"),
        (f"{__name__}:a_class", "expected a classifier"),
        (f"{__name__}:without_probabilities", "returned a LinearSVC, expected a classifier with predict_proba"),
    ],
)
def test_a_factory_that_does_not_return_a_classifier_is_refused(estimator, message):
    with pytest.raises(BadInput, match=message):
        build_estimator(Hyperparameters(estimator=estimator))


def test_a_failing_step_reports_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    (tmp_path / "input/data/train").mkdir(parents=True)
    write_contract(tmp_path / "input/data/contract")
    with pytest.raises(SystemExit) as ended:
        step.main()
    assert ended.value.code == 1
    assert "has no rows" in (tmp_path / "output/failure").read_text()
