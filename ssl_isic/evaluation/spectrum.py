"""What a cloud of features looks like without any label: its effective rank, its decay, its spread on the sphere.

Shapes: N images, D features. Everything is computed in float64.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ALPHA_RANKS = (5, 100)
LEAST_EIGENVALUE = 1e-12  # of the largest: below it float32 features hold only rounding
PAIR_ROWS = 2048


def rankme(features_ND: ArrayLike, epsilon: float = 1e-7) -> float:
    """Effective rank of features, 1 to min(N, D): the exponential of the entropy of their normalised singular values.

    Source: Garrido et al. 2023 (RankMe), equations 1 and 2; `epsilon` is added after the values are made to sum to 1.

    Raises:
        ValueError: features that are not a finite (N, D), or all zero.
    """
    singular = np.linalg.svd(_matrix(features_ND), compute_uv=False)
    if not singular.any():
        raise ValueError("the rank of features that are all zero is undefined")
    p = singular / singular.sum() + epsilon
    return float(np.exp(-np.sum(p * np.log(p))))


def alpha_req(features_ND: ArrayLike, ranks: tuple[int, int] = ALPHA_RANKS) -> float:
    """Decay of the spectrum: minus the slope of log eigenvalue against log rank, by least squares.

    The eigenvalues are those of the covariance (features centred), largest first, as rank 1. The line is fitted to the
    ranks from `ranks[0]` to `ranks[1]`, both included, or to the last eigenvalue above 1e-12 of the largest where that
    comes first: the leading few stand apart from the power law. About 1 is good, larger means fewer directions in use.

    Source: Agrawal et al. 2022 (alpha-ReQ), section 2.

    Raises:
        ValueError: features that are not a finite (N, D); fewer than 3 eigenvalues in the range.
    """
    features = _matrix(features_ND)
    singular = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    eigenvalues = singular**2 / len(features)
    kept = int(np.count_nonzero(eigenvalues > LEAST_EIGENVALUE * eigenvalues[0]))
    first, last = ranks[0], min(ranks[1], kept)
    if last - first < 2:
        raise ValueError(f"a slope over ranks {first} to {ranks[1]} needs 3+ eigenvalues there, {kept} are not zero")
    rank = np.arange(first, last + 1)
    slope, _ = np.polyfit(np.log(rank), np.log(eigenvalues[first - 1 : last]), deg=1)
    return float(-slope)


def or_none(figure: Callable[[Floats], float], features_ND: ArrayLike) -> float | None:
    """RankMe or alpha-ReQ of finite features, None where they have too few directions for it."""
    features = _matrix(features_ND)
    try:
        return figure(features)
    except ValueError:
        return None


def alignment(first_ND: ArrayLike, second_ND: ArrayLike) -> float:
    """Mean squared distance between two views of the same images on the unit sphere, 0 to 4; 0 is perfectly invariant.

    Source: Wang and Isola 2020, section 4.1.1, with alpha = 2.

    Raises:
        ValueError: features of different shapes, or not a finite (N, D).
    """
    first, second = _on_sphere(first_ND), _on_sphere(second_ND)
    if first.shape != second.shape:
        raise ValueError(f"alignment needs the same images twice, got {first.shape} and {second.shape}")
    return float(np.mean(np.sum((first - second) ** 2, axis=1)))


def uniformity(features_ND: ArrayLike, t: float = 2) -> float:
    """Log of the mean over pairs of exp(-t squared distance) on the unit sphere, -4 t to 0; lower is spread more evenly.

    Source: Wang and Isola 2020, section 4.1.2. Pairs are visited in tiles, never all at once.

    Raises:
        ValueError: features that are not a finite (N, D); fewer than two rows.
    """
    features = _on_sphere(features_ND)
    if len(features) < 2:
        raise ValueError(f"uniformity needs pairs, got {len(features)} row")
    total = 0.0
    for start in range(0, len(features), PAIR_ROWS):
        rows = features[start : start + PAIR_ROWS]
        within = np.exp(-2 * t * (1 - rows @ rows.T))
        total += within[np.triu_indices(len(rows), k=1)].sum()
        for other in range(start + PAIR_ROWS, len(features), PAIR_ROWS):
            total += np.exp(-2 * t * (1 - rows @ features[other : other + PAIR_ROWS].T)).sum()
    return float(np.log(total / (len(features) * (len(features) - 1) / 2)))


def _matrix(features_ND: ArrayLike) -> Floats:
    features = np.asarray(features_ND, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError(f"features must have the shape (N, D), got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"features must be finite, row {np.flatnonzero(~np.isfinite(features).all(axis=1))[0]} is not")
    return features


def _on_sphere(features_ND: ArrayLike) -> Floats:
    features = _matrix(features_ND)
    lengths: Floats = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(np.float64).tiny)
