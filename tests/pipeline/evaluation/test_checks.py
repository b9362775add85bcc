"""The checks before the gate: each planted fault is detected, and healthy data passes."""

from dataclasses import replace

import numpy as np
import pytest
from run_sets import CONTRACT, FIRST_DAY, rows_table, write_set
from run_sets import STRONG as STRONG_NAME

from pipeline.data import dataset
from pipeline.evaluation.checks import FAILED, PASSED, WARNING, run_checks
from pipeline.evaluation.distance import LARGE_PSI, divergence, kolmogorov_smirnov
from pipeline.evaluation.feature_strength import CALENDAR, strength, strengths
from pipeline.evaluation.histogram import bin_counts, histogram
from pipeline.evaluation.model_reference import feature_psi, reference_of
from processing.features.feature_set import FeatureSet

NAMES = FeatureSet(CONTRACT).names
STRONG, WEAK = NAMES.index(STRONG_NAME), NAMES.index("customer_count_1d")
AMOUNT = NAMES.index("amount")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Training rows, the test rows of a champion, and those of its challenger."""
    periods = {"train": (0, 20, 200), "champion": (22, 7, 300), "test": (50, 7, 300)}
    return {
        name: dataset.read(
            write_set(
                tmp_path_factory.mktemp(name),
                rows_table(days=days, per_day=per_day, first_day=FIRST_DAY + start, seed=start),
            ),
            CONTRACT,
        )
        for name, (start, days, per_day) in periods.items()
    }


def changed(rows, column=None, values=None, y=None):
    X = rows.X.copy()  # noqa: N806
    if column is not None:
        X[:, column] = values(rows) if callable(values) else values
    return replace(rows, X=X, y=rows.y if y is None else y)


def findings_of(sets, test=None, train=None, champion=True):
    train, test = train or sets["train"], test or sets["test"]

    def reference(rows):
        return reference_of(rows, np.zeros(rows.rows), 0.5, NAMES)

    training = {"frauds": train.frauds, "features": strengths(train, NAMES)}
    champions = reference(sets["champion"]) if champion else None
    return run_checks(test, NAMES, reference(test), training, champions)


def of_status(findings, status):
    return [(one.check, one.feature) for one in findings if one.status == status]


@pytest.mark.parametrize("champion", [True, False])
def test_healthy_data_passes_every_check(sets, champion):
    findings = findings_of(sets, champion=champion)
    assert len(findings) == (5 if champion else 3)
    assert {one.status for one in findings} == {PASSED}


def test_too_few_frauds_do_not_count_as_a_lost_relation(sets):
    test = sets["test"]
    few = np.flatnonzero(test.y == 1)[20:]
    rare = changed(test, STRONG, shuffled(STRONG), y=np.where(np.isin(np.arange(test.rows), few), 0, test.y))
    lost_relations = [
        finding for finding in findings_of(sets, rare, champion=False) if finding.check == "lost relation"
    ]
    assert not of_status(lost_relations, "failed")


def shuffled(column):
    return lambda rows: np.random.default_rng(5).permutation(rows.X[:, column])


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [
        (WEAK, 3.0, "constant feature"),
        (WEAK, np.nan, "constant feature"),
        (STRONG, shuffled(STRONG), "lost relation"),
        (AMOUNT, shuffled(AMOUNT), "lost relation"),
        (WEAK, lambda rows: rows.y + np.random.default_rng(6).normal(0, 0.1, rows.rows), "label leak"),
        (WEAK, lambda rows: np.where(rows.y == 1, rows.X[:, WEAK], np.nan), "label leak"),  # known only for frauds
        (WEAK, lambda rows: -1.0 * rows.y, "label leak"),
    ],
)
def test_a_broken_feature_in_the_test_rows_fails_a_check(sets, champion, column, values, fault):
    findings = findings_of(sets, changed(sets["test"], column, values), champion=champion)
    assert (fault, NAMES[column]) in of_status(findings, FAILED)
    assert {feature for _, feature in of_status(findings, FAILED)} == {NAMES[column]}


@pytest.mark.parametrize(
    ("column", "values", "fault"),
    [(STRONG, shuffled(STRONG), "lost relation"), (WEAK, 3.0, "constant feature")],
)
def test_the_champions_reference_reveals_a_feature_that_is_also_broken_in_training(sets, column, values, fault):
    train, test = (changed(sets[name], column, values) for name in ("train", "test"))
    assert (fault, NAMES[column]) in of_status(findings_of(sets, test, train), FAILED)
    assert not of_status(findings_of(sets, test, train, champion=False), FAILED)


def test_a_leak_in_the_training_rows_alone_fails_a_check(sets):
    train = changed(sets["train"], WEAK, lambda rows: rows.y)
    assert ("label leak", NAMES[WEAK]) in of_status(findings_of(sets, train=train), FAILED)


def test_a_feature_that_was_always_constant_is_a_warning(sets):
    train, test = (changed(sets[name], WEAK, 0.0) for name in ("train", "test"))
    findings = findings_of(sets, test, train, champion=False)
    assert of_status(findings, WARNING) == [("constant feature", NAMES[WEAK])]


def test_a_strong_feature_is_a_failure_only_if_it_was_weaker_for_the_champion(sets):
    def strong(rows):
        return rows.y + np.random.default_rng(6).normal(0, 0.4, rows.rows)

    train, test = (changed(sets[name], WEAK, strong) for name in ("train", "test"))
    auc = strength(test.X[:, WEAK], test.y)["auc"]
    assert 0.95 <= auc < 0.99
    assert ("label leak", NAMES[WEAK]) in of_status(findings_of(sets, test, train), FAILED)
    assert of_status(findings_of(sets, test, train, champion=False), WARNING) == [("label leak", NAMES[WEAK])]


@pytest.mark.parametrize(("share", "status"), [(1.0, PASSED), (0.8, PASSED), (0.55, WARNING), (0.3, FAILED)])
def test_the_label_rate_is_compared_with_the_champions(sets, share, status):
    test, champion = sets["test"], sets["champion"]
    frauds = np.flatnonzero(test.y)[: round(share * champion.frauds * test.rows / champion.rows)]
    y = np.isin(np.arange(test.rows), frauds).astype(test.y.dtype)
    [finding] = [one for one in findings_of(sets, changed(test, y=y)) if one.check == "label rate"]
    assert finding.status == status


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (lambda rows: rows.X[:, WEAK] + 0.1, PASSED),
        (lambda rows: rows.X[:, WEAK] + 0.6, WARNING),  # the drift of time is no failure
        (lambda rows: rows.X[:, WEAK] * 100 + 300, FAILED),  # another unit
        (lambda rows: np.where(np.arange(rows.rows) % 5 < 2, np.nan, rows.X[:, WEAK]), FAILED),
    ],
)
def test_drift_is_a_warning_and_a_changed_quantity_is_a_failure(sets, values, status):
    [finding] = [one for one in findings_of(sets, changed(sets["test"], WEAK, values)) if one.check == "feature drift"]
    assert finding.status == status
    if status == FAILED and "missing" in finding.says:
        assert "40% of its values are missing, up from 0%" in finding.says


def test_calendar_features_are_not_checked(sets):
    for name in CALENDAR:
        findings = findings_of(sets, changed(sets["test"], NAMES.index(name), 0.0))
        assert {one.status for one in findings} == {PASSED}


def test_a_histogram_counts_every_value_once_and_gives_frequent_ones_their_own_bin():
    values = np.array([0.0] * 60 + [1.0] * 25 + [2.0] * 10 + [np.nan] * 5)
    bins = histogram(values)
    assert sum(bins["counts"]) == 100
    assert bins["counts"][-1] == 5
    assert {60, 25}.issubset(bins["counts"])
    assert bin_counts(np.array([-1.0]), bins["edges"])[0] == 1  # below all values of the histogram
    assert bin_counts(np.array([99.0]), bins["edges"])[-2] == 1


def test_the_distances_are_zero_for_equal_histograms_and_finite_for_disjoint_ones():
    one, other = [50, 30, 20], [20, 30, 50]
    assert divergence(one, one) == kolmogorov_smirnov(one, one) == 0.0
    assert divergence(one, other) == pytest.approx(2 * 0.3 * np.log(2.5), rel=0.05)
    assert divergence(one, other) == pytest.approx(divergence(other, one))
    assert kolmogorov_smirnov(one, other) == pytest.approx(0.3)
    assert np.isfinite(divergence([10, 0], [0, 10]))


@pytest.mark.parametrize("fraud", [5, 10, 15])
def test_chance_differences_in_few_rows_are_not_drift(sets, fraud):
    first = np.flatnonzero(sets["test"].y)[fraud] - 20
    few = sets["test"].part(slice(first, first + 40))
    champions = reference_of(sets["champion"], np.zeros(sets["champion"].rows), 0.5, NAMES)
    assert max(feature_psi(few, NAMES, champions).values()) >= LARGE_PSI  # a warning, if chance were ignored
    ours, training = reference_of(few, np.zeros(few.rows), 0.5, NAMES), {"frauds": 0, "features": {}}
    statuses = [one.status for one in run_checks(few, NAMES, ours, training, champions) if one.check == "feature drift"]
    assert statuses == [PASSED]
