"""Calibration against lines that are known and Bayes by hand."""

import numpy as np
import pytest

from finetune.calibrate import Platt, fit_platt, logit, shift_prior
from finetune.predict import sigmoid


def test_platt_recovers_a_known_line() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(-1, 2, 40_000)
    target = (rng.random(raw.size) < sigmoid(0.6 * raw - 1.5)).astype(float)
    line = fit_platt(sigmoid(raw), target)
    assert line.slope == pytest.approx(0.6, abs=0.03)
    assert line.intercept == pytest.approx(-1.5, abs=0.05)
    assert line(sigmoid(raw)).mean() == pytest.approx(target.mean(), abs=1e-4), "it expects as many as there are"


def test_a_calibrated_probability_is_the_line_through_the_logit_by_hand() -> None:
    line = Platt(slope=2.0, intercept=-1.0)
    # odds 3 -> odds 9 / e
    assert line(np.array([0.75]))[0] == pytest.approx(9 / np.e / (1 + 9 / np.e), rel=1e-12)


def test_platt_keeps_the_order_and_stays_within_zero_and_one() -> None:
    rng = np.random.default_rng(1)
    target = np.repeat([0.0, 1.0], [300, 30])
    raw = sigmoid(rng.normal(0, 1, 330) + target)
    line = fit_platt(raw, target)
    assert line.slope > 0
    p = np.concatenate([[0.0, 1e-300], 10 ** rng.uniform(-10, -0.01, 500), [1.0]])
    calibrated = line(p)
    assert (np.diff(calibrated[np.argsort(p)]) >= 0).all()
    assert ((calibrated > 0) & (calibrated < 1)).all()


def test_scores_that_know_nothing_are_calibrated_to_the_prior() -> None:
    target = np.repeat([0.0, 1.0], [90, 10])
    line = fit_platt(np.full(100, 0.3), target)
    assert line(np.array([0.3]))[0] == pytest.approx(0.1, abs=2e-3)


def test_shift_prior_is_bayes_by_hand() -> None:
    # 1 % malignant, p = 0.2: the likelihood ratio is (0.2 / 0.8) / (1 / 99) = 24.75; at 25 % the odds are 24.75 / 3
    assert shift_prior(np.array([0.2]), 0.01, 0.25)[0] == pytest.approx(8.25 / 9.25, rel=1e-12)
    assert shift_prior(np.array([0.01]), 0.01, 0.25)[0] == pytest.approx(0.25, rel=1e-12), "no evidence, the prior"


def test_shift_prior_has_its_inverse_and_keeps_the_order() -> None:
    p = np.linspace(1e-6, 1 - 1e-6, 1001)
    there = shift_prior(p, 0.001, 0.3)
    assert (np.diff(there) > 0).all()
    assert np.allclose(shift_prior(there, 0.3, 0.001), p, rtol=1e-9, atol=0)
    assert np.allclose(shift_prior(p, 0.2, 0.2), p, rtol=1e-12, atol=0)


def test_logit_is_the_inverse_of_the_sigmoid_and_finite_at_the_ends() -> None:
    logits = np.linspace(-30, 15, 91)
    assert np.allclose(logit(sigmoid(logits)), logits, rtol=1e-8, atol=1e-8)
    ends = logit(np.array([0.0, 1.0]))
    assert np.isfinite(ends).all()
    assert ends[0] < -30
    assert ends[1] > 30
