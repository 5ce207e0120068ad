"""Nearest neighbours by cosine, for a score and for looking at them. A row's own group (patient, lesion) never counts.

Shapes: N images, D features, M queries, k neighbours. Similarities are computed tile by tile, so that N x N never exists.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.floating]  # float32 from a file, or float64

NEIGHBOURS = 20
TEMPERATURE = 0.07
QUERY_ROWS, KEY_ROWS = 512, 8192  # one tile of similarities takes 34 MB


def knn_scores(
    features_ND: Features,
    target: ArrayLike,
    groups: NDArray[np.generic],
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Floats:
    """Share of positives among the `k` nearest rows of other groups, (N,), 0 to 1, weighted by exp(cosine / temperature).

    Where fewer than `k` rows belong to other groups, all of them vote.

    Source: Caron et al. 2021 (DINO), section 4.1 and its eval_knn.py, with two classes.

    Raises:
        ValueError: shapes that do not fit; fewer than two groups; `k` below 1.
    """
    target = np.asarray(target, dtype=np.float64)
    if target.shape != (len(features_ND),):
        raise ValueError(f"target must have the shape ({len(features_ND)},), got {target.shape}")
    shares = list[Floats]()
    for rows, similarity in _nearest(features_ND, np.arange(len(features_ND)), k, groups):
        most = similarity.max(axis=1, keepdims=True)
        weight = np.exp((similarity - most) / temperature)  # a neighbour that is not there has -inf, and weighs nothing
        shares.append(np.sum(weight * target[rows], axis=1) / weight.sum(axis=1))
    return np.concatenate(shares)


def nearest(
    features_ND: Features, queries: NDArray[np.integer], k: int, groups: NDArray[np.generic]
) -> NDArray[np.intp]:
    """The `k` rows of other groups nearest to each of the rows `queries` (M,), nearest first, (M, k); -1 where none is left.

    Raises:
        ValueError: shapes that do not fit; fewer than two groups; `k` below 1.
    """
    found = [rows for rows, _ in _nearest(features_ND, queries, k, groups)]
    return np.concatenate([np.empty((0, k), np.intp), *found])


def _nearest(
    features_ND: Features, queries: NDArray[np.integer], k: int, groups: NDArray[np.generic]
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield rows and similarities (m, k) of tiles of the queries, most similar first; -1 and -inf where no row is left.

    Of all queries at once they would take 16 GB for 400,000 with k = 1,000.
    """
    names, group = np.unique(groups, return_inverse=True)
    if group.shape != (len(features_ND),):
        raise ValueError(f"groups must have the shape ({len(features_ND)},), got {group.shape}")
    if names.size < 2:
        raise ValueError(f"neighbours of other groups need 2+ groups, got {names.size}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    for start in range(0, len(queries), QUERY_ROWS):
        tile = queries[start : start + QUERY_ROWS]
        wanted = _on_sphere(features_ND[tile])
        rows, similarity = np.full((len(tile), k), -1, dtype=np.intp), np.full((len(tile), k), -np.inf)
        for first in range(0, len(features_ND), KEY_ROWS):
            keys = slice(first, first + KEY_ROWS)
            cosine = wanted @ _on_sphere(features_ND[keys]).T
            cosine[group[tile, None] == group[None, keys]] = -np.inf
            rows, similarity = _merge(rows, similarity, cosine, first)
        order = np.argsort(-similarity, axis=1, kind="stable")
        rows, similarity = np.take_along_axis(rows, order, axis=1), np.take_along_axis(similarity, order, axis=1)
        rows[similarity == -np.inf] = -1
        yield rows, similarity


def _merge(rows: NDArray[np.intp], similarity: Floats, cosine: Floats, first: int) -> tuple[NDArray[np.intp], Floats]:
    """The best k of those found so far and of a tile whose columns are the rows from `first` on."""
    k = rows.shape[1]
    both = np.concatenate([similarity, cosine], axis=1)
    columns = np.argpartition(-both, k - 1, axis=1)[:, :k]
    found = np.where(columns < k, np.take_along_axis(rows, np.minimum(columns, k - 1), axis=1), columns - k + first)
    return found, np.take_along_axis(both, columns, axis=1)


def _on_sphere(features: Features) -> Floats:
    wide = features.astype(np.float64)
    lengths: Floats = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, np.finfo(np.float64).tiny)
