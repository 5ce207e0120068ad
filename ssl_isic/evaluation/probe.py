"""Linear probe: logistic regression on frozen features, scored on groups that it never saw; and with few labels.

Features are standardised on the rows trained on. C, the inverse strength of the L2 penalty, is the one of `C_GRID`, in
ascending order, before the log loss on an inner grouped split of those rows rises: larger ones take most of the time.

A score is a row's standing within its own held-out fold: the share of the fold's negatives that it outscores, its placement
value (Pepe and Cai 2004). The probes of two folds have different C and intercepts, above all with few labels, and pooling their
log odds compares what cannot be compared: on 405 images of HAM10000 it cost up to 0.06 of AUC against the mean over folds. The
AUC of standings is that mean, each fold with the weight of its positives, also where folds differ in prevalence, as clinics do.

Shapes: N images, D features.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_isic.data.folds import Folds, make_folds

Floats = NDArray[np.float64]
Features = NDArray[np.floating]
Labels = NDArray[np.float64]
Groups = NDArray[np.str_]

C_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
INNER_FOLDS = 3
SHARES = (0.01, 0.05, 0.1, 0.25, 1.0)
DRAWS = 5
MAX_ITERATIONS = 2000
TOLERANCE = 1e-6
"""Largest gradient of the mean loss at which a fit has converged; where one row in a thousand is positive, 1e-4 is early."""


class FewShot(NamedTuple):
    """Out-of-fold scores (draws, N) of probes that were trained on a share of the groups."""

    share: float
    scores: Floats
    train_groups: float
    """Groups that a probe was trained on, mean over folds and draws."""
    train_positives: float
    """Of those, the ones with a positive."""


def linear_probe(features_ND: Features, target: Labels, groups: Groups, fold: Folds, seed: int = 0) -> Floats:
    """Out-of-fold scores (N,), 0 to 1, each from a probe that never saw the row's fold.

    `fold` (N,) keeps groups whole and has both classes outside each fold, see `data.folds.check_folds`.

    Raises:
        ValueError: a fold outside which there is one class only.
    """
    scores: Floats = _few_shot(features_ND, target, groups, fold, 1.0, 1, seed).scores[0]
    return scores


def few_shot(
    features_ND: Features,
    target: Labels,
    groups: Groups,
    fold: Folds,
    shares: Sequence[float] = SHARES,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[FewShot]:
    """Label efficiency: `linear_probe` trained on each share of the groups outside the fold, `draws` times.

    A draw takes the share of the groups with a positive and of those without, each rounded and at least one, so that
    prevalence stays. Within a draw a smaller share is part of a larger one. Where the groups taken still have one class
    only (no group is free of positives, say), more are added until they have both. A share of 1 has one draw, and is
    `linear_probe`.

    Raises:
        ValueError: a share outside (0, 1]; a fold outside which there is one class only.
    """
    return [_few_shot(features_ND, target, groups, fold, share, draws if share < 1 else 1, seed) for share in shares]


def _few_shot(
    features_ND: Features, target: Labels, groups: Groups, fold: Folds, share: float, draws: int, seed: int
) -> FewShot:
    scores, taken, positive = np.zeros((draws, len(target))), list[int](), list[int]()
    for draw in range(draws):
        for number in np.unique(fold):
            held = fold == number
            rows = np.flatnonzero(~held)
            rows = rows[draw_rows(target[rows], groups[rows], share, np.random.default_rng([seed, draw, int(number)]))]
            model = _fitted(features_ND[rows], target[rows], groups[rows], seed)
            scores[draw, held] = _standing(model.decision_function(features_ND[held].astype(np.float64)), target[held])
            taken.append(np.unique(groups[rows]).size)
            positive.append(np.unique(groups[rows][target[rows] == 1]).size)
    return FewShot(share, scores, float(np.mean(taken)), float(np.mean(positive)))


def draw_rows(target: Labels, groups: Groups, share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """The rows, in order, of a `share` of the groups: see `few_shot`.

    Raises:
        ValueError: a share outside (0, 1]; rows of one class only.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of the groups must be in (0, 1], got {share}")
    _require_both_classes(target)
    names, group = np.unique(groups, return_inverse=True)
    has_positive = np.zeros(names.size, dtype=bool)
    has_positive[group[target == 1]] = True
    taken, left = np.zeros(names.size, dtype=bool), list[np.intp]()
    for members in (np.flatnonzero(has_positive), np.flatnonzero(~has_positive)):
        order = rng.permutation(members)
        count = max(1, round(share * len(order)))
        taken[order[:count]] = True
        left.extend(order[count:])
    while np.unique(target[taken[group]]).size < 2:
        taken[left.pop(0)] = True
    return np.flatnonzero(taken[group])


def _fitted(features_ND: Features, target: Labels, groups: Groups, seed: int) -> Pipeline:
    _require_both_classes(target)
    c = _best_c(features_ND, target, groups, seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=TOLERANCE, max_iter=MAX_ITERATIONS))
    return model.fit(features_ND.astype(np.float64), target)


def _standing(scores: Floats, target: Labels) -> Floats:
    """The share of the negatives' `scores` that each is above, ties counting half; of all, where there is no negative."""
    others = np.sort(scores[target == 0] if np.any(target == 0) else scores)
    standing: Floats = (
        (np.searchsorted(others, scores) + np.searchsorted(others, scores, side="right")) / 2 / len(others)
    )
    return standing


def _best_c(features_ND: Features, target: Labels, groups: Groups, seed: int) -> float:
    """The largest C up to which the log loss falls; the smallest, a direction between the classes' means, without splits."""
    splits = list(_inner_splits(target, groups, seed))
    models = [LogisticRegression(tol=TOLERANCE, max_iter=MAX_ITERATIONS, warm_start=True) for _ in splits]
    best, least = C_GRID[0], np.inf
    for c in C_GRID:
        loss = sum(
            _log_loss(model.set_params(C=c), features_ND, target, held)
            for model, held in zip(models, splits, strict=True)
        )
        if loss >= least:
            break
        best, least = c, loss
    return best


def _log_loss(model: LogisticRegression, features_ND: Features, target: Labels, held: NDArray[np.bool_]) -> float:
    """The log loss of `held` (N,) by `model` trained on the other rows, all standardised by those."""
    scaler = StandardScaler().fit(features_ND[~held].astype(np.float64))
    inside, outside = (scaler.transform(features_ND[rows].astype(np.float64)) for rows in (~held, held))
    decision = model.fit(inside, target[~held]).decision_function(outside)
    return float(np.logaddexp(0, (1 - 2 * target[held]) * decision).sum())


def _inner_splits(target: Labels, groups: Groups, seed: int) -> Iterator[NDArray[np.bool_]]:
    """The rows held out, bool (rows,), in turn; none where a class has one group only."""
    folds = min(INNER_FOLDS, *(np.unique(groups[target == label]).size for label in (0, 1)))
    if folds < 2:
        return
    fold = make_folds([f"{row:09d}" for row in range(len(target))], target, groups, folds, seed)
    for number in range(folds):
        held = fold == number
        if held.any() and np.unique(target[~held]).size == 2:
            yield held


def _require_both_classes(target: Labels) -> None:
    if np.unique(target).size < 2:
        raise ValueError(f"a probe needs rows of both classes, got {len(target)} rows of one")
