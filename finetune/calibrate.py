"""Calibration: from a model's logits to the probability that a lesion is malignant."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from finetune.predict import sigmoid

PROBABILITY_FLOOR = 1e-15


class Platt(NamedTuple):
    """A straight line through the logits. It keeps their order while the slope is positive."""

    slope: float
    intercept: float

    def __call__(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities of raw ones (N,)."""
        return sigmoid(self.slope * logit(p) + self.intercept)


def fit_platt(p: NDArray[np.float64], target: NDArray[np.float64]) -> Platt:
    """Fit on out-of-fold probabilities (N,) and labels (N,). Source: Platt 1999, with a weak L2 penalty for few positives."""
    model = LogisticRegression(C=100.0).fit(logit(p)[:, None], target)
    return Platt(float(model.coef_[0, 0]), float(model.intercept_[0]))


def logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of probabilities (N,), those of 0 and 1 kept finite."""
    p = np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.log(p) - np.log1p(-p)


def shift_prior(p: NDArray[np.float64], prior: float, new_prior: float) -> NDArray[np.float64]:
    """Calibrated probabilities (N,) under `prior`, restated for a population in which the prior is `new_prior`.

    Source: Saerens et al. 2002, equation 4.
    """
    shift = logit(np.array([new_prior])) - logit(np.array([prior]))
    return sigmoid(logit(p) + shift)
