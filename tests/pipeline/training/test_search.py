"""The search for hyperparameters: it only sees validation weeks, and ends with a command that uses the result."""

import json
import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from run_sets import CONTRACT, FIRST_DAY, rows_table
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.data import dataset
from pipeline.data.folds import last_weeks
from pipeline.definition.defaults import HYPERPARAMETERS
from pipeline.estimators.hyperparameters import LIMITS, Hyperparameters
from pipeline.training import search
from processing.contracts.home_contract import adopt
from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.tables import tables
from processing.tables.schemas import features_schema

TRIALS: list[dict[str, str]] = [{}, {"MaxIterations": "2", "LearningRate": "0.001"}, {"MaxIterations": "20"}]


def test_every_hyperparameter_is_a_parameter_of_the_pipeline_with_the_same_default() -> None:
    defaults = {key: default for key, (_, default) in HYPERPARAMETERS.items()}
    assert defaults == asdict(Hyperparameters())
    assert {*LIMITS, "estimator"} == {field.name for field in fields(Hyperparameters)}
    for key, (name, default) in HYPERPARAMETERS.items():
        if key == "estimator":  # tested in `tests/pipeline/training/test_train.py`
            continue
        other = LIMITS[key][1] if default == LIMITS[key][0] else LIMITS[key][0]
        assert asdict(search.as_hyperparameters({name: str(other)}))[key] == other


def home_with(folder: Path, table: pa.Table) -> Home:
    """A home whose features table holds the rows, committed as the feature job does."""
    home = open_home(folder / "home")
    adopt(home, CONTRACT)
    opened = tables.open_tables(home, CONTRACT)
    day = pc.divide(table["event_time"].cast(pa.int64()), 86_400_000_000).to_numpy()
    schema = pa.schema([field.with_nullable(True) for field in features_schema(CONTRACT)])
    files = {}
    for number in np.unique(day).tolist():
        files[number] = f"{opened.folder('features')}/data/made-up/{number}.parquet"
        file = folder / "made.parquet"
        pq.write_table(table.filter(day == number).select(schema.names).cast(schema), file)
        home.upload(file, files[number])
    opened.replace_days("features", files, list(files.values()))
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return home_with(tmp_path_factory.mktemp("search"), rows_table(days=40, per_day=40))


def test_a_search_never_sees_the_test_week(home: Home) -> None:
    rows, folds = search.validation_weeks(home, CONTRACT, 3)
    test_week = FIRST_DAY + 40 - CONTRACT.test_days
    assert rows.day[-1] == test_week - 1
    assert [fold.test.start for fold in folds] == [test_week - 12, test_week - 8, test_week - 4]
    for fold in folds:
        assert fold.train(rows, CONTRACT.train_days).day[-1] == fold.test.start - CONTRACT.label_delay_days - 1


def test_a_history_too_short_for_a_fold_is_an_error(tmp_path: Path) -> None:
    home = home_with(tmp_path, rows_table(days=8))
    with pytest.raises(BadInput, match="make no validation fold"):
        search.validation_weeks(home, CONTRACT, 3)


def test_trials_are_listed_best_first_and_repeat_exactly() -> None:
    rows = dataset.of_table(rows_table(days=30), CONTRACT, "the rows")
    folds = list(last_weeks(FIRST_DAY + 30, CONTRACT, 2))
    trials = search.search(rows, folds, CONTRACT, TRIALS)
    assert trials == sorted(trials, key=lambda trial: -np.mean(trial.average_precision))
    assert trials[-1].settings == TRIALS[1]  # two steps at a learning rate of 0.001 learn almost nothing
    again = search.search(rows, folds, CONTRACT, TRIALS)
    assert [trial.average_precision for trial in again] == [trial.average_precision for trial in trials]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({"MaxLeaves": ["3"]}, "'MaxLeaves'; did you mean 'MaxLeafNodes'"),
        ({"MaxLeafNodes": ["3", "few"]}, "max_leaf_nodes is 'few'"),
    ],
)
def test_settings_that_a_run_would_refuse_are_refused_before_fitting(candidates: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        search.combinations(candidates, 5, 0)


def test_combinations_are_the_defaults_and_the_requested_number_of_others() -> None:
    combinations = search.combinations({}, 10, 3)
    assert combinations[0] == {}
    assert len(combinations) == 11
    assert len({search.as_hyperparameters(settings) for settings in combinations}) == 11
    assert combinations == search.combinations({}, 10, 3)
    assert search.combinations({"MaxLeafNodes": ["4", "8"], "MaxFeatures": ["0.5"]}, 10, 0)[1:] != []


def test_the_command_prints_a_run_command_with_the_best_settings(home: Home) -> None:
    values = ["--try", "MaxIterations=4,30", "--try", "LearningRate=0.3"]
    arguments = ["search", "--home", home.url, "--folds", "2", *values]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    line = result.stdout.splitlines()[-1]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    best = max(document["trials"], key=lambda trial: trial["mean"])["settings"]
    assert len(document["trials"]) == 3
    assert line.endswith("fraudline run" + "".join(f" --set {name}={value}" for name, value in best.items()))
    words = shlex.split(line)
    assert words[words.index("fraudline") + 1] == "run"


def test_a_single_fold_has_no_standard_error(home: Home) -> None:
    arguments = ["search", "--home", home.url, "--folds", "1", "--try", "MaxIterations=4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    other = next(line for line in result.stdout.splitlines() if line.endswith("MaxIterations=4"))
    assert "nan" not in other
    assert other.count("±") == 1  # the deviation over the folds
