"""Metrics of the scores are the library's own on the same rows; what is kept comes back the same."""

from pathlib import Path

import numpy as np
import pytest

from ssl_isic.data.folds import make_folds
from ssl_isic.evaluation import scores as scores_module
from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import knn_scores
from ssl_isic.evaluation.probe import linear_probe
from ssl_isic.evaluation.scores import few_shot_rows, from_arrays, lesions_hash, measure, score, standardised, to_arrays
from ssl_isic.evaluation.spectrum import alpha_req, rankme
from ssl_isic.metrics import bootstrap, bootstrap_over_draws, paired_bootstrap, partial_auc, roc_auc


@pytest.fixture(scope="module")
def lesions() -> Lesions:
    """60 lesions of 30 patients, 20 of them malignant, in 3 folds."""
    target = (np.arange(60) % 3 == 0).astype(float)
    groups = np.array([f"P{number:02d}" for number in np.repeat(np.arange(30), 2)])
    ids = [f"ISIC_{number}" for number in range(60)]
    return Lesions(ids, np.arange(60), target, groups, make_folds(ids, target, groups, 3, seed=0), {})


def features_of(lesions: Lesions, seed: int = 0) -> np.typing.NDArray[np.float32]:
    features = np.random.default_rng(seed).normal(size=(60, 16))
    features[:, 0] += 2 * lesions.target
    return features.astype(np.float32)


def test_a_row_holds_what_the_parts_say_on_the_same_features(lesions: Lesions) -> None:
    features, weaker = features_of(lesions), features_of(lesions)[:, 1:]
    made, colour = (score(values, lesions, (0.25, 1.0), draws=2, neighbours=7, seed=5) for values in (features, weaker))
    row = measure(made, colour, lesions, repeats=50, seed=5)
    probe, other = (linear_probe(v, lesions.target, lesions.groups, lesions.fold, 5) for v in (features, weaker))
    knn = knn_scores(features, lesions.target, lesions.fold.astype(str), 7)
    assert row["knn_pauc"] == partial_auc(lesions.target, knn)
    interval = bootstrap(roc_auc, lesions.target, knn, lesions.groups, repeats=50, seed=5)
    assert (row["knn_auc"], row["knn_auc_low"], row["knn_auc_high"]) == interval[:3]
    interval = bootstrap(roc_auc, lesions.target, probe, lesions.groups, repeats=50, seed=5)
    assert (row["probe_auc"], row["probe_auc_low"], row["probe_auc_high"]) == interval[:3]
    lead = paired_bootstrap(partial_auc, lesions.target, probe, other, lesions.groups, repeats=50, seed=5)
    assert [row[f"probe_pauc_minus_colour{end}"] for end in ("", "_low", "_high")] == list(lead[:3])
    assert (row["size"], row["rankme"], row["alpha_req"]) == (16, rankme(features), alpha_req(features))
    assert "probe_auc_minus_colour" not in measure(made, None, lesions, repeats=2, seed=0)


def test_few_shot_rows_are_metrics_of_each_draw(lesions: Lesions) -> None:
    made = score(features_of(lesions), lesions, (0.25, 1.0), draws=2, neighbours=7, seed=5)
    rows = few_shot_rows(made, lesions, repeats=50, seed=5)
    assert [(row["share"], row["draw"]) for row in rows] == [(0.25, 0), (0.25, 1), (1.0, 0)]
    assert rows[1]["auc"] == roc_auc(lesions.target, made.few_shot[0].scores[1])
    assert rows[2]["pauc"] == partial_auc(lesions.target, made.probe)
    assert rows[2]["train_groups"] == 20
    for row, drawn in ((rows[1], list(made.few_shot[0].scores)), (rows[2], [made.probe])):
        over_draws = bootstrap_over_draws(partial_auc, lesions.target, drawn, lesions.groups, repeats=50, seed=5)
        assert (row["pauc_low"], row["pauc_high"]) == (over_draws.low, over_draws.high)


def test_scores_come_back_from_a_file_as_they_were(lesions: Lesions, tmp_path: Path) -> None:
    collapsed = np.zeros((60, 3), np.float32)
    for features in (features_of(lesions), collapsed):
        made = score(features, lesions, (0.5, 1.0), draws=2, neighbours=20, seed=0)
        np.savez(tmp_path / "scores.npz", **to_arrays(made))
        with np.load(tmp_path / "scores.npz") as kept:
            back = from_arrays(dict(kept))
        assert (back.size, back.rankme, back.alpha_req) == (made.size, made.rankme, made.alpha_req)
        assert np.array_equal(back.knn, made.knn)
        for ours, theirs in zip(back.few_shot, made.few_shot, strict=True):
            assert np.array_equal(ours.scores, theirs.scores)
            assert (ours.share, ours.train_groups, ours.train_positives) == (
                theirs.share,
                theirs.train_groups,
                theirs.train_positives,
            )
    assert made.rankme is None
    assert made.alpha_req is None
    assert roc_auc(lesions.target, made.probe) == 0.5


def test_a_spectrum_of_many_rows_is_that_of_some(lesions: Lesions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "SPECTRUM_ROWS", 30)
    features = features_of(lesions)
    some = score(features, lesions, (1.0,), draws=1, neighbours=20, seed=0).rankme
    assert some is not None
    assert some != rankme(features)
    assert some == pytest.approx(rankme(features), rel=0.15)


def test_standardised_features_have_no_unit() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 0] + [5, -3, 2]
    made = standardised(features)
    assert np.allclose(made.mean(axis=0), 0)
    assert np.allclose(made.std(axis=0), [1, 1, 0])


def test_the_hash_is_of_labels_groups_folds_and_settings(lesions: Lesions) -> None:
    known = lesions_hash(lesions, 5, 0)
    assert lesions_hash(lesions.only(np.ones(60, bool)), 5, 0) == known
    assert lesions_hash(lesions, 5, 1) != known
    for changed in ("target", "fold"):
        other = lesions.only(np.ones(60, bool))
        getattr(other, changed)[0] = 1 - getattr(other, changed)[0]
        assert lesions_hash(other, 5, 0) != known
