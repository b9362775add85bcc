"""Calibration: probabilities that are true measure as such, and those that are not do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.calibration import calibration, reliability

scored = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=1)


@given(scored, st.integers(1, 60))
def test_every_row_is_in_one_bin_and_equal_scores_share_it(rows, bins):
    y, score = (np.array(column, float) for column in zip(*rows, strict=True))
    found = reliability(y, score, bins)
    assert len(found.rows) <= bins
    assert found.rows.min() > 0
    assert found.rows.sum() == len(y)
    assert np.isclose((found.rows * found.fraud).sum(), y.sum())
    assert np.all(np.diff(found.score) > 0)
    ends = np.cumsum(found.rows)[:-1]
    ordered = np.sort(score)
    assert np.all(ordered[ends - 1] < ordered[ends])


@given(scored)
def test_the_measures_are_within_their_limits(rows):
    y, score = (np.array(column, float) for column in zip(*rows, strict=True))
    found = calibration(y, score)
    assert found["brier"] == pytest.approx(brier_score_loss(y, score))
    assert 0.0 <= found["calibration_error"] <= 1.0
    assert found["frauds_expected"] == pytest.approx(score.sum())


def test_true_probabilities_are_calibrated_and_halved_or_sharpened_ones_are_not():
    random = np.random.default_rng(2)
    truth = random.beta(0.3, 12, 200_000)
    y = (random.random(len(truth)) < truth).astype(np.int8)
    true, halved, sharp = (
        calibration(y, score) for score in (truth, truth / 2, truth**2 / (truth**2 + (1 - truth) ** 2))
    )
    assert true["calibration_error"] < 0.2 * min(halved["calibration_error"], sharp["calibration_error"])
    assert true["brier"] < min(halved["brier"], sharp["brier"])
    assert true["frauds_expected"] == pytest.approx(y.sum(), rel=0.03)
    assert 0.0 < true["brier_skill"] < 1.0


def test_the_share_of_frauds_for_everyone_has_no_skill():
    y = np.array([0, 0, 0, 1])
    found = calibration(y, np.full(4, 0.25))
    assert found["brier_skill"] == 0.0
    assert found["calibration_error"] == 0.0
    assert calibration(y, y.astype(float))["brier_skill"] == 1.0
