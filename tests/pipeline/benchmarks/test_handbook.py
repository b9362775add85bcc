"""The Fraud Detection Handbook's protocol: its folds, their training rows, the cards they exclude."""

import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.benchmarks import handbook
from pipeline.benchmarks.handbook import (
    CALIBRATION,
    CARD,
    DAYS,
    PUBLISHED,
    book_fold,
    validation_folds,
    validation_rows,
)
from pipeline.data.dataset import Dataset
from pipeline.data.folds import Fold
from pipeline.estimators.hyperparameters import Hyperparameters
from processing.errors import BadInput
from processing.split import EPOCH, date_of
from processing.synthetic.synthesize import write

QUICK = Hyperparameters(max_iterations=5, learning_rate=0.3)
FIRST, LAST = date(2018, 4, 28), date(2018, 9, 4)


def transactions(first: date = FIRST, last: date = LAST, per_day: int = 60) -> pa.Table:
    """A small table like the book's, in which fraud is likely for large amounts."""
    random, days = np.random.default_rng(4), (last - first).days + 1
    n = days * per_day
    seconds = np.sort(random.integers(0, days * 86_400, n)) + (first - EPOCH).days * 86_400
    amount = np.round(random.lognormal(3.5, 0.8, n), 2)
    fraud = random.random(n) < np.where(amount > 120, 0.6, 0.01)
    return pa.table(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": pa.array(seconds, pa.timestamp("s")).cast(pa.timestamp("us")),
            "CUSTOMER_ID": random.integers(0, 150, n),
            "TERMINAL_ID": random.integers(0, 80, n),
            "TX_AMOUNT": amount,
            "TX_FRAUD": fraud.astype(np.int64),
        }
    )


def write_file(folder: Path, table: pa.Table) -> Path:
    pq.write_table(table, folder / "handbook.parquet")
    return folder / "handbook.parquet"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(tmp_path_factory.mktemp("handbook"), transactions())


@pytest.fixture(scope="module")
def rows(file: Path) -> Dataset:
    return handbook._rows(file)


ALL = [*validation_folds(), *(book_fold(start) for start in handbook._STARTS["test"])]


def test_the_folds_match_the_book() -> None:
    weeks = [(date_of(fold.test[0]).isoformat(), date_of(fold.test[-1]).isoformat()) for fold in ALL]
    assert weeks[:4] == [
        ("2018-07-04", "2018-07-10"),
        ("2018-07-11", "2018-07-17"),
        ("2018-07-18", "2018-07-24"),
        ("2018-07-25", "2018-07-31"),
    ]
    assert weeks[4:] == [
        ("2018-08-08", "2018-08-14"),
        ("2018-08-15", "2018-08-21"),
        ("2018-08-22", "2018-08-28"),
        ("2018-08-29", "2018-09-04"),
    ]


@pytest.mark.parametrize("fold", ALL)
def test_training_ends_a_label_delay_before_the_test_and_a_longer_history_starts_earlier(
    rows: Dataset, fold: Fold
) -> None:
    for history in (7, 60):
        train = fold.train(rows, history)
        assert train.day[-1] == fold.test[0] - 7 - 1
        assert train.day[0] == fold.test[0] - 7 - history
        assert np.array_equal(np.unique(train.day), np.arange(train.day[0], train.day[-1] + 1))


@pytest.mark.parametrize("fold", ALL)
def test_cards_are_excluded_exactly_as_in_the_book(rows: Dataset, fold: Fold) -> None:
    cards, day, fraud = rows.entities[CARD], rows.day, rows.y == 1
    start = fold.test[0] - 14
    compromised = set(cards[(day >= start) & (day < start + 7) & fraud])
    expected: list[int] = []
    for number in range(7):
        compromised |= set(cards[(day == start + 7 + number - 1) & fraud])
        expected += [int(i) for i in np.flatnonzero(day == start + 14 + number) if cards[i] not in compromised]
    assert fold.test_rows(rows, CARD).tolist() == expected
    excluded = np.count_nonzero(np.isin(day, fold.test)) - len(expected)
    assert 0 < excluded < len(expected)  # otherwise the comparison would prove little


def test_validation_rows_end_before_the_first_test_week(file: Path, rows: Dataset) -> None:
    chosen_on = validation_rows(file)
    assert date_of(int(chosen_on.day[-1])) == date(2018, 8, 7)
    for fold in validation_folds():
        assert np.array_equal(fold.test_rows(chosen_on, CARD), fold.test_rows(rows, CARD))


def test_the_test_week_and_the_delay_do_not_change_the_training_rows(rows: Dataset, tmp_path: Path) -> None:
    """Replace labels and amounts after the end of training: earlier features must stay the same too."""
    fold, table = book_fold(handbook._STARTS["test"][1]), transactions()
    late = table["TX_DATETIME"].cast(pa.int64()).to_numpy() // 86_400_000_000 >= fold.train_end
    random = np.random.default_rng(9)
    for name, new in (("TX_FRAUD", random.integers(0, 2, len(table))), ("TX_AMOUNT", random.uniform(1, 9, len(table)))):
        values = np.where(late, new, table[name].to_numpy()).astype(table[name].to_numpy().dtype)
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    other = handbook._rows(write_file(tmp_path, table))
    assert not np.array_equal(other.y, rows.y)
    before, after = fold.train(rows, 60), fold.train(other, 60)
    assert np.array_equal(before.X, after.X, equal_nan=True)
    assert np.array_equal(before.y, after.y)


def test_the_figures_are_reproducible_and_summarise_the_folds(rows: Dataset) -> None:
    one, two = (handbook.measure_folds(rows, validation_folds(), 7, QUICK) for _ in range(2))
    assert one == two
    for name in (*PUBLISHED, CALIBRATION):
        assert one[name]["mean"] == pytest.approx(np.mean(one[name]["folds"]))
        assert one[name]["standard_deviation"] == pytest.approx(np.std(one[name]["folds"]))
        assert len(set(one[name]["folds"])) > 1
    assert 0.7 < one[CALIBRATION]["mean"] < 1.4


def test_the_table_has_every_figure(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handbook, "Hyperparameters", lambda: QUICK)
    progress: list[str] = []
    result = handbook.benchmark_handbook(file, progress.append)
    assert json.loads(json.dumps(result)) == result
    assert [(w, n, m["history_days"]) for w in ("test", "validation") for n, m in result[w].items()] == [
        (w, n, days) for w in ("test", "validation") for n, days in (("7_days", 7), ("default", 60))
    ]
    assert result["test"]["default"] != result["validation"]["default"]
    assert len(progress) == 4
    lines = handbook.handbook_table(result).splitlines()
    for line, measures in zip(lines[1:3], result["test"].values(), strict=True):
        for name in (*PUBLISHED, CALIBRATION):
            assert f"{measures[name]['mean']:.4f} ± {measures[name]['standard_deviation']:.4f}" in line


def test_a_file_with_missing_days_is_refused_with_the_days_needed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="2018-05-01 to 2018-09-04; the protocol needs 2018-04-28 to 2018-09-04"):
        handbook._rows(write_file(tmp_path, transactions(first=date(2018, 5, 1), per_day=20)))


REAL = os.environ.get("FRAUDLINE_HANDBOOK", "")


@pytest.mark.skipif(not REAL, reason="FRAUDLINE_HANDBOOK does not name the handbook's transactions")
def test_a_small_model_on_seven_days_reaches_its_known_figures_on_the_real_file() -> None:
    rows = validation_rows(Path(REAL))
    figures = handbook.measure_folds(
        rows, validation_folds()[-1:], DAYS, Hyperparameters(max_iterations=60, learning_rate=0.2)
    )
    assert figures["average_precision"]["mean"] > 0.68
    assert figures["auc_roc"]["mean"] > 0.86


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    nothing = transactions().slice(0, 0)
    write(nothing, tmp_path / name)
    with pytest.raises(BadInput, match="has no labelled rows"):
        handbook._rows(tmp_path / name)
