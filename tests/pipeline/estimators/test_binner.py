"""TailBinner: codes that keep the order of values, and cut points that tree thresholds fold back into."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline.estimators import binner
from pipeline.estimators.binner import TailBinner
from pipeline.estimators.factory import build_estimator
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.scorer.packing import pack_and_prove
from processing.contracts.reader import load
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet

numbers = st.floats(allow_nan=True, allow_infinity=False, width=64)
columns = arrays(np.float64, st.tuples(st.integers(1, 60), st.just(1)), elements=numbers)


@parametrize_with_checks([TailBinner()])
def test_tail_binner_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_documented_example_works():
    outcome = doctest.testmod(binner)
    assert outcome.attempted
    assert not outcome.failed


@given(columns, st.integers(1, 20), st.floats(0, 1))
def test_codes_keep_the_order_and_thresholds_fold_back(x, max_cuts, tail_share):
    fitted = TailBinner(max_cuts, tail_share).fit(x)
    (cuts,) = fitted.cuts_
    codes = fitted.transform(x)
    assert len(cuts) <= max_cuts
    assert np.all(np.diff(cuts) > 0)
    assert np.array_equal(np.isnan(codes), np.isnan(x) & ~np.isnan(x).all())
    for values in (x, cuts.reshape(-1, 1)):
        for k in range(len(cuts)):
            assert np.array_equal(fitted.transform(values) <= k, values <= cuts[k])


@given(columns)
def test_few_distinct_values_all_get_codes_of_their_own(x):
    codes = TailBinner().fit_transform(x)
    present = ~np.isnan(x)
    assert len(np.unique(codes[present])) == len(np.unique(x[present]))


def test_both_tails_are_resolved_to_single_rows():
    x = np.random.default_rng(0).lognormal(size=(50_000, 1))
    codes = np.sort(TailBinner().fit_transform(x).ravel())
    assert len(np.unique(codes[:10])) >= 5
    assert len(np.unique(codes[-10:])) >= 5
    assert np.bincount(codes.astype(int)).max() < 50_000 / 100  # and no bin in between is wide


@pytest.mark.parametrize("wrong", [{"max_cuts": 0}, {"tail_share": 1.5}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TailBinner(**wrong).fit([[1.0], [2.0]])


def test_hyperparameters_are_parsed_from_text():
    parsed = Hyperparameters.from_strings({"learning_rate": "0.1", "max_iterations": "20", "sagemaker_region": "x"})
    assert parsed == Hyperparameters(learning_rate=0.1, max_iterations=20)
    assert build_estimator(parsed).named_steps["trees"].max_iter == 20


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("learning_rat", "0.1", "did you mean 'learning_rate'"),
        ("max_iterations", "many", "max_iterations is 'many'"),
        ("max_iterations", "1.5", "whole number"),
        ("max_features", "0", "max_features is '0'"),
        ("learning_rate", "nan", "learning_rate is 'nan'"),
    ],
)
def test_an_invalid_hyperparameter_is_reported_by_name(name, text, message):
    with pytest.raises(BadInput, match=message):
        Hyperparameters.from_strings({name: text})


def test_a_feature_without_values_in_training_is_accepted() -> None:
    X = np.column_stack([np.full(200, np.nan), np.arange(200.0)])  # noqa: N806 (scikit-learn's name)
    binner = TailBinner().fit(X)
    assert (binner.transform(X)[:, 0] == 0.0).all()
    model = build_estimator(Hyperparameters(max_iterations=3)).fit(X, np.arange(200) >= 100)
    assert model.predict_proba([[5.0, 199.0]])[0, 1] > model.predict_proba([[np.nan, 0.0]])[0, 1]
    assert pack_and_prove(model, X).scorer is not None


def test_missing_and_unknown_categories_follow_training_or_else_the_most_frequent_category() -> None:
    features, random, n = FeatureSet(load("transactions")), np.random.default_rng(3), 2_000
    channel = random.choice(["chip", "contactless", "online"], n, p=[0.2, 0.7, 0.1])
    risky = channel == "online"
    known = features.encode({"channel": channel}, n)
    some = features.encode({"channel": np.where(risky, random.choice([None, "telepathy"], n), channel)}, n)
    odd = features.encode({"channel": [None, "telepathy", "contactless", "online"]}, 4)
    quick = Hyperparameters(max_iterations=20, learning_rate=0.3, l2_regularization=0.0, max_features=1.0)
    without, having = (build_estimator(quick).fit(X, risky).predict_proba(odd)[:, 1] for X in (known, some))
    assert without[0] == without[1] == without[2] < 0.1 < 0.9 < without[3]
    assert having[0] == having[1] > 0.9
    assert having[2] < 0.1
