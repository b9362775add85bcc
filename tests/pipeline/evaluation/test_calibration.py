"""Calibration: the figures tell true probabilities from others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.calibration import calibration, reliability_bins

scored = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=1)


@given(scored, st.integers(1, 60))
def test_every_row_is_in_one_bin_and_equal_scores_share_it(rows, bins):
    y, score = (np.array(column, float) for column in zip(*rows, strict=True))
    binned = reliability_bins(y, score, bins)
    assert len(binned.rows) <= bins
    assert binned.rows.min() > 0
    assert binned.rows.sum() == len(y)
    assert np.isclose((binned.rows * binned.fraud).sum(), y.sum())
    assert np.all(np.diff(binned.score) > 0)
    edges = np.cumsum(binned.rows)[:-1]
    ordered = np.sort(score)
    assert np.all(ordered[edges - 1] < ordered[edges])


@given(scored)
def test_calibration_figures_are_within_their_limits(rows):
    y, score = (np.array(column, float) for column in zip(*rows, strict=True))
    figures = calibration(y, score)
    assert figures["brier"] == pytest.approx(brier_score_loss(y, score))
    assert 0.0 <= figures["calibration_error"] <= 1.0
    assert figures["frauds_expected"] == pytest.approx(score.sum())


def test_true_probabilities_are_calibrated_but_halved_or_sharpened_ones_are_not():
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


def test_scoring_every_row_with_the_fraud_rate_has_no_skill():
    y = np.array([0, 0, 0, 1])
    figures = calibration(y, np.full(4, 0.25))
    assert figures["brier_skill"] == 0.0
    assert figures["calibration_error"] == 0.0
    assert calibration(y, y.astype(float))["brier_skill"] == 1.0
