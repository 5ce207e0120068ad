"""Nearest neighbours by cosine, for a score and for looking at them. A row's own group (patient, lesion) never counts.

Shapes: N images, D features, M queries, k neighbours. Similarities are computed tile by tile, so that N x N never exists.
"""

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
    rows, similarity = _nearest(features_ND, np.arange(len(features_ND)), k, groups)
    nearest = similarity.max(axis=1, keepdims=True)
    weight = np.exp((similarity - nearest) / temperature)  # a neighbour that is not there has -inf, and weighs nothing
    shares: Floats = np.sum(weight * target[rows], axis=1) / weight.sum(axis=1)
    return shares


def nearest(
    features_ND: Features, queries: NDArray[np.integer], k: int, groups: NDArray[np.generic]
) -> NDArray[np.intp]:
    """The `k` rows of other groups nearest to each of the rows `queries` (M,), nearest first, (M, k); -1 where none is left.

    Raises:
        ValueError: shapes that do not fit; fewer than two groups; `k` below 1.
    """
    return _nearest(features_ND, queries, k, groups)[0]


def _nearest(
    features_ND: Features, queries: NDArray[np.integer], k: int, groups: NDArray[np.generic]
) -> tuple[NDArray[np.intp], Floats]:
    """Rows and similarities (M, k), most similar first; -1 and -inf where no row of another group is left."""
    names, group = np.unique(groups, return_inverse=True)
    if group.shape != (len(features_ND),):
        raise ValueError(f"groups must have the shape ({len(features_ND)},), got {group.shape}")
    if names.size < 2:
        raise ValueError(f"neighbours of other groups need 2+ groups, got {names.size}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}")
    rows = np.full((len(queries), k), -1, dtype=np.intp)
    similarity = np.full((len(queries), k), -np.inf)
    for start in range(0, len(queries), QUERY_ROWS):
        tile = slice(start, start + QUERY_ROWS)
        wanted = _on_sphere(features_ND[queries[tile]])
        for first in range(0, len(features_ND), KEY_ROWS):
            keys = slice(first, first + KEY_ROWS)
            cosine = wanted @ _on_sphere(features_ND[keys]).T
            cosine[group[queries[tile], None] == group[None, keys]] = -np.inf
            rows[tile], similarity[tile] = _merge(rows[tile], similarity[tile], cosine, first)
    order = np.argsort(-similarity, axis=1, kind="stable")
    rows, similarity = np.take_along_axis(rows, order, axis=1), np.take_along_axis(similarity, order, axis=1)
    rows[similarity == -np.inf] = -1
    return rows, similarity


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
