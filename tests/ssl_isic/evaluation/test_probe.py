"""The linear probe against scikit-learn, one fold at a time; what a few-shot draw takes and what it never takes."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl_isic.data.folds import make_folds
from ssl_isic.evaluation import probe
from ssl_isic.evaluation.probe import C_GRID, draw_rows, few_shot, linear_probe
from ssl_isic.metrics import partial_auc, roc_auc

Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_], NDArray[np.int64]]


@pytest.fixture(scope="module")
def lesions() -> Arrays:
    """120 rows of 60 patients in 4 folds; the first of 5 features tells the classes apart, more or less."""
    rng = np.random.default_rng(0)
    target = (rng.random(120) < 0.3).astype(float)
    features = rng.normal(size=(120, 5)) * [1, 10, 100, 0.1, 1]
    features[:, 0] += 1.5 * target
    groups = np.array([f"P{number:02d}" for number in np.repeat(np.arange(60), 2)])
    fold = make_folds([f"{row:03d}" for row in range(120)], target, groups, 4, seed=0)
    return features, target, groups, fold


def log_loss_of(
    c: float, features: NDArray[np.float64], target: NDArray[np.float64], inner: NDArray[np.int64]
) -> float:
    total = 0.0
    for number in range(3):
        train, held = inner != number, inner == number
        scaler = StandardScaler().fit(features[train])
        model = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(scaler.transform(features[train]), target[train])
        p = model.predict_proba(scaler.transform(features[held]))
        total -= np.log(p[np.arange(held.sum()), target[held].astype(int)]).sum()
    return total


def test_each_fold_is_scikit_learns_with_the_c_of_least_inner_log_loss(lesions: Arrays) -> None:
    features, target, groups, fold = lesions
    scores = linear_probe(features, target, groups, fold)
    for number in range(4):
        train, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        inner = make_folds([f"{k:09d}" for k in range(len(train))], target[train], groups[train], 3, seed=0)
        c = min(C_GRID, key=lambda c, rows=train, inner=inner: log_loss_of(c, features[rows], target[rows], inner))
        scaler = StandardScaler().fit(features[train])
        model = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(scaler.transform(features[train]), target[train])
        odds = model.decision_function(scaler.transform(features[held]))
        benign = odds[target[held] == 0]
        standing = [(np.sum(benign < value) + np.sum(benign == value) / 2) / len(benign) for value in odds]
        assert np.allclose(scores[held], standing, rtol=1e-12)
    assert roc_auc(target, scores) > 0.75


def test_folds_of_unlike_prevalence_are_scored_as_the_mean_over_them() -> None:
    """As clinics are: a perfect probe has an AUC of 1, and another one the mean of its folds', weighted by their positives."""
    rng, fold = np.random.default_rng(0), np.repeat([0, 1], 1000)
    target = np.concatenate([np.arange(1000) < 200, np.arange(1000) < 20]).astype(float)
    groups = np.arange(2000).astype(str)
    assert roc_auc(target, linear_probe(target[:, None], target, groups, fold)) == 1
    assert partial_auc(target, linear_probe(target[:, None], target, groups, fold)) == pytest.approx(0.2)
    scores = linear_probe(rng.normal(1.5 * target)[:, None], target, groups, fold)
    of_folds = [roc_auc(target[fold == number], scores[fold == number]) for number in (0, 1)]
    assert of_folds[0] != pytest.approx(of_folds[1], abs=0.005)
    assert roc_auc(target, scores) == pytest.approx(np.average(of_folds, weights=[200, 20]), abs=1e-3)


def test_it_has_converged_where_one_row_in_a_thousand_is_positive() -> None:
    """There the gradient of the mean loss is small from the start: scikit-learn's own tolerance ends early."""
    rng, rows = np.random.default_rng(2), 20_000
    target = np.zeros(rows)
    target[:: rows // 20] = 1
    features = rng.normal(size=(rows, 24)) * np.geomspace(1, 30, 24) + target[:, None] * rng.normal(size=24)
    groups, fold = np.arange(rows).astype(str), np.arange(rows) // (rows // 20) % 2
    scores = linear_probe(features, target, groups, fold)
    held = fold == 0
    scaler = StandardScaler().fit(features[~held])
    inside, outside = scaler.transform(features[~held]), scaler.transform(features[held])
    odds = [
        LogisticRegression(C=c, tol=1e-10, max_iter=5000).fit(inside, target[~held]).decision_function(outside)
        for c in C_GRID
    ]
    closest = max(spearmanr(scores[held], one).statistic for one in odds)
    assert closest > 1 - 1e-5


def test_it_is_a_function_of_the_seed(lesions: Arrays) -> None:
    first, again, other = (few_shot(*lesions, shares=(0.1,), draws=2, seed=seed)[0].scores for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scaling_a_feature_changes_nothing(lesions: Arrays) -> None:
    features, target, groups, fold = lesions
    assert np.allclose(
        linear_probe(features * [1e4, 1, 1, 1, 1e-4], target, groups, fold), linear_probe(*lesions), atol=1e-9
    )


def test_no_row_is_scored_by_a_probe_that_saw_its_group(lesions: Arrays) -> None:
    """Features that name the group and nothing else are worth nothing, though they would learn every label by heart."""
    _, target, groups, fold = lesions
    names = (np.unique(groups)[None] == groups[:, None]).astype(float)
    target = np.repeat(target[::2], 2)
    held = linear_probe(names, target, groups, fold)
    assert np.all(held == 0.5)


def test_the_whole_share_is_the_probe_in_one_draw(lesions: Arrays) -> None:
    tenth, whole = few_shot(*lesions, shares=(0.1, 1.0), draws=3)
    assert tenth.scores.shape == (3, 120)
    assert whole.scores.shape == (1, 120)
    assert np.array_equal(whole.scores[0], linear_probe(*lesions))
    assert whole.train_groups == 45
    # of some 15 groups with a positive and 30 without, outside a fold
    assert 4 <= tenth.train_groups <= 6
    assert 1 <= tenth.train_positives <= 3


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 1.0])
def test_a_draw_takes_whole_groups_and_a_share_of_each_kind(share: float, lesions: Arrays) -> None:
    _, target, groups, _ = lesions
    rows = draw_rows(target, groups, share, np.random.default_rng(3))
    assert np.array_equal(rows, np.flatnonzero(np.isin(groups, groups[rows])))
    with_positive = np.unique(groups[target == 1])
    taken = np.unique(groups[rows])
    positive = int(np.isin(taken, with_positive).sum())
    assert positive == max(1, round(share * len(with_positive)))
    assert len(taken) - positive == max(1, round(share * (60 - len(with_positive))))


def test_a_smaller_draw_is_part_of_a_larger_one(lesions: Arrays) -> None:
    _, target, groups, _ = lesions
    small, large = (set(draw_rows(target, groups, share, np.random.default_rng(7)).tolist()) for share in (0.1, 0.4))
    assert small < large


def test_where_every_group_has_a_positive_more_are_added_until_there_is_a_negative() -> None:
    groups = np.repeat([f"P{number}" for number in range(10)], 2)
    target = np.ones(20)
    target[19] = 0
    for seed in range(5):
        assert 19 in draw_rows(target, groups, 0.1, np.random.default_rng(seed))


def test_one_group_of_each_class_is_enough_and_takes_the_smallest_c(
    lesions: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, target, groups, fold = lesions
    chosen = list[float]()
    original = probe._best_c
    monkeypatch.setattr(probe, "_best_c", lambda *words: chosen.append(original(*words)) or chosen[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shot = few_shot(features, target, groups, fold, shares=(1e-6,), draws=2)[0]
    assert chosen == [C_GRID[0]] * 8
    assert (shot.train_groups, shot.train_positives) == (2, 1)
    assert shot.scores.shape == (2, 120)


def test_what_cannot_be_learned_from_is_refused(lesions: Arrays) -> None:
    features, _, groups, _ = lesions
    with pytest.raises(ValueError, match=r"share of the groups must be in \(0, 1\], got 0"):
        few_shot(*lesions, shares=(0.0,))
    with pytest.raises(ValueError, match="needs rows of both classes, got 90 rows of one"):
        linear_probe(features, np.zeros(120), groups, np.repeat(np.arange(4), 30))
