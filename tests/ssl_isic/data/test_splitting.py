"""Folds hold equal shares of rows and of positives, no worse than scikit-learn's, for any seed and in seconds."""

import time
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ssl_isic.data.splitting import deal_groups


def excess(counts: NDArray[np.int64], fold: NDArray[np.int64], n_folds: int) -> NDArray[np.float64]:
    """By how much the fullest fold exceeds a fair share, for each class."""
    sums = np.stack([np.bincount(fold, weights=column, minlength=n_folds) for column in counts.T])
    return np.asarray(sums.max(axis=1) / sums.mean(axis=1) - 1)


def scikit_learn(counts: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    group = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    label = np.concatenate([np.repeat([0, 1], row) for row in counts])
    fold = np.empty(len(counts), np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for number, (_, held_out) in enumerate(splitter.split(label, label, group)):
        fold[np.unique(group[held_out])] = number
    return fold


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["exponential", "zipf", "few"])
def test_balance_is_no_worse_than_scikit_learns(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {
        "exponential": rng.exponential(30, 200),
        "zipf": 400 / np.arange(1, 201),
        "few": rng.exponential(20, 30),
    }[kind].astype(int) + 1
    positives = rng.binomial(sizes, 0.1)
    counts = np.stack([sizes - positives, positives], axis=1)
    ours, theirs = (excess(counts, fold, 5) for fold in (deal_groups(counts, 5, seed), scikit_learn(counts, 5)))
    assert ours.max() <= max(theirs.max(), 0.02)


def test_by_hand() -> None:
    counts = np.array([[0, 1], [4, 0], [2, 0], [2, 0], [0, 1]])
    fold = deal_groups(counts, 2, seed=0)
    assert fold[0] != fold[4], "one positive each"
    assert fold[2] == fold[3] != fold[1], "four negatives each"


def test_another_seed_deals_even_groups_of_different_sizes_anew() -> None:
    counts = np.stack([np.arange(100, 200), np.arange(100) % 7], axis=1)
    deals = [deal_groups(counts, 5, seed) for seed in range(5)]
    assert np.array_equal(deals[0], deal_groups(counts, 5, 0))
    for one in range(5):
        for other in range(one):
            assert np.mean(deals[one] == deals[other]) < 0.5
        assert excess(counts, deals[one], 5).max() < 0.05


def test_hundreds_of_thousands_of_groups_take_seconds() -> None:
    rng = np.random.default_rng(0)
    counts = np.stack([rng.integers(0, 3, 100_000), rng.random(100_000) < 0.001], axis=1).astype(np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    started = time.process_time()
    fold = deal_groups(counts, 5, 0)
    assert time.process_time() - started < 5
    assert excess(counts, fold, 5).max() < 0.06
    assert excess(counts[:, :1], fold, 5).max() < 0.001


def test_no_warning_where_a_class_is_rarer_than_folds() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold = deal_groups(np.array([[5, 1], [5, 1], [5, 0], [5, 0]]), 4, 0)
    assert sorted(fold.tolist()) == [0, 1, 2, 3]
