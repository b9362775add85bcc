"""The search for hyperparameters: it sees validation weeks alone, and ends with a line that a run takes."""

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

TRIED: list[dict[str, str]] = [{}, {"MaxIterations": "2", "LearningRate": "0.001"}, {"MaxIterations": "20"}]


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
        made = folder / "made.parquet"
        pq.write_table(table.filter(day == number).select(schema.names).cast(schema), made)
        home.upload(made, files[number])
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


def test_too_short_a_history_is_an_error(tmp_path: Path) -> None:
    home = home_with(tmp_path, rows_table(days=8))
    with pytest.raises(BadInput, match="make no validation fold"):
        search.validation_weeks(home, CONTRACT, 3)


def test_trials_are_listed_best_first_and_repeat_exactly() -> None:
    rows = dataset.of_table(rows_table(days=30), CONTRACT, "the rows")
    folds = list(last_weeks(FIRST_DAY + 30, CONTRACT, 2))
    found = search.search(rows, folds, CONTRACT, TRIED)
    assert found == sorted(found, key=lambda trial: -np.mean(trial.average_precision))
    assert found[-1].settings == TRIED[1]  # two steps of a thousandth learn next to nothing
    again = search.search(rows, folds, CONTRACT, TRIED)
    assert [trial.average_precision for trial in again] == [trial.average_precision for trial in found]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"MaxLeaves": ["3"]}, "'MaxLeaves'; did you mean 'MaxLeafNodes'"),
        ({"MaxLeafNodes": ["3", "few"]}, "max_leaf_nodes is 'few'"),
    ],
)
def test_what_a_run_would_refuse_is_refused_before_anything_is_fitted(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        search.combinations(given, 5, 0)


def test_combinations_are_the_defaults_and_the_requested_number_of_others() -> None:
    drawn = search.combinations({}, 10, 3)
    assert drawn[0] == {}
    assert len(drawn) == 11
    assert len({search.as_hyperparameters(settings) for settings in drawn}) == 11
    assert drawn == search.combinations({}, 10, 3)
    assert search.combinations({"MaxLeafNodes": ["4", "8"], "MaxFeatures": ["0.5"]}, 10, 0)[1:] != []


def test_the_command_ends_with_the_command_that_uses_the_best(home: Home) -> None:
    values = ["--try", "MaxIterations=4,30", "--try", "LearningRate=0.3"]
    arguments = ["search", "--home", home.url, "--folds", "2", *values]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    line = done.stdout.splitlines()[-1]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    best = max(document["trials"], key=lambda trial: trial["mean"])["settings"]
    assert len(document["trials"]) == 3
    assert line.endswith("fraudline run" + "".join(f" --set {name}={value}" for name, value in best.items()))
    words = shlex.split(line)
    assert words[words.index("fraudline") + 1] == "run"


def test_one_fold_has_no_error_of_the_mean(home: Home) -> None:
    arguments = ["search", "--home", home.url, "--folds", "1", "--try", "MaxIterations=4"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    other = next(line for line in done.stdout.splitlines() if line.endswith("MaxIterations=4"))
    assert "nan" not in other
    assert other.count("±") == 1  # the deviation over the folds
