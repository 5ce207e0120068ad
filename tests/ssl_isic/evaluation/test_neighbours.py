"""Nearest neighbours against plain loops and scikit-learn; the own group never votes."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from ssl_isic.evaluation import neighbours
from ssl_isic.evaluation.neighbours import knn_scores, nearest


def cloud(rows: int, groups: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    names = np.array([f"P{number}" for number in rng.integers(groups, size=rows)])
    return rng.normal(size=(rows, 6)), (rng.random(rows) < 0.3).astype(float), names


def by_loops(
    features: NDArray[np.float64], target: NDArray[np.float64], groups: NDArray[np.str_], k: int
) -> tuple[list[float], list[list[int]]]:
    """DINO's vote, one row at a time."""
    unit = [row / math.sqrt(sum(row**2)) for row in features]
    scores, found = [], []
    for i, row in enumerate(unit):
        others = [(float(row @ unit[j]), j) for j in range(len(unit)) if groups[j] != groups[i]]
        best = sorted(others, reverse=True)[:k]
        votes = [(math.exp(similarity / 0.07), target[j]) for similarity, j in best]
        scores.append(sum(weight * label for weight, label in votes) / sum(weight for weight, _ in votes))
        found.append([j for _, j in best])
    return scores, found


@pytest.mark.parametrize("k", [1, 5, 20])
def test_scores_and_neighbours_are_those_of_plain_loops(k: int) -> None:
    features, target, groups = cloud(60, 25)
    scores, found = by_loops(features, target, groups, k)
    assert np.allclose(knn_scores(features, target, groups, k), scores, rtol=1e-10)
    assert nearest(features, np.arange(60), k, groups).tolist() == found
    assert nearest(features, np.array([7, 3]), k, groups).tolist() == [found[7], found[3]]


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target, groups = cloud(103, 40, seed=1)
    whole = knn_scores(features, target, groups), nearest(features, np.arange(103), 9, groups)
    monkeypatch.setattr(neighbours, "QUERY_ROWS", 10)
    monkeypatch.setattr(neighbours, "KEY_ROWS", 7)
    tiled = knn_scores(features, target, groups), nearest(features, np.arange(103), 9, groups)
    assert np.array_equal(whole[1], tiled[1])
    assert np.allclose(whole[0], tiled[0], rtol=1e-12)


def test_with_rows_as_groups_it_is_scikit_learns_vote_without_the_row_itself() -> None:
    features, target, _ = cloud(50, 1)
    scores = knn_scores(features, target, np.arange(50), k=7, temperature=0.1)
    for row in range(50):
        others = np.arange(50) != row
        peer = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1))
        peer.fit(features[others], target[others])
        assert scores[row] == pytest.approx(peer.predict_proba(features[[row]])[0, 1], rel=1e-9)


def test_a_copy_in_the_own_group_does_not_vote() -> None:
    features = np.array([[1.0, 0], [1, 0], [1, 0.1], [0, 1]])
    target, groups = np.array([1.0, 1, 0, 0]), np.array(["a", "a", "b", "c"])
    assert knn_scores(features, target, groups, k=1).tolist() == [0, 0, 1, 0]
    assert nearest(features, np.array([0]), 3, groups).tolist() == [[2, 3, -1]]


def test_float32_and_zeros_are_fine_and_length_does_not_count() -> None:
    features, target, groups = cloud(30, 30)
    stretched = features * np.arange(1, 31)[:, None]
    assert np.allclose(
        knn_scores(stretched.astype(np.float32), target, groups), knn_scores(features, target, groups), atol=1e-5
    )
    features[0] = 0
    assert np.isfinite(knn_scores(features, target, groups)).all()


def test_what_does_not_fit_is_refused() -> None:
    features, target, groups = cloud(10, 5)
    with pytest.raises(ValueError, match=r"2\+ groups, got 1"):
        knn_scores(features, target, np.full(10, "a"))
    with pytest.raises(ValueError, match=r"groups must have the shape \(10,\)"):
        nearest(features, np.arange(2), 3, groups[:9])
    with pytest.raises(ValueError, match=r"target must have the shape \(10,\)"):
        knn_scores(features, target[:9], groups)
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        nearest(features, np.arange(2), 0, groups)
