"""pAUC against Kaggle's own code, exact rational arithmetic and scikit-learn; the bootstrap against theory."""

from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from ssl_isic.metrics import (
    Interval,
    average_precision,
    balanced_accuracy,
    bootstrap,
    bootstrap_over_draws,
    classification_metrics,
    paired_bootstrap,
    partial_auc,
    roc_auc,
    top_k_sensitivity,
)

Floats = NDArray[np.float64]


def kaggle_pauc(target: Floats, score: Floats, min_tpr: float = 0.8) -> float:
    """The competition's metric, line by line."""
    v_gt = abs(np.asarray(target) - 1)
    v_pred = -1.0 * np.asarray(score)
    max_fpr = abs(1 - min_tpr)
    fpr, tpr, _ = sk.roc_curve(v_gt, v_pred, sample_weight=None)
    stop = np.searchsorted(fpr, max_fpr, "right")
    x_interp = [fpr[stop - 1], fpr[stop]]
    y_interp = [tpr[stop - 1], tpr[stop]]
    tpr = np.append(tpr[:stop], np.interp(max_fpr, x_interp, y_interp))
    fpr = np.append(fpr[:stop], max_fpr)
    return float(sk.auc(fpr, tpr))


def exact_pauc(target: Floats, score: Floats) -> Fraction:
    """Trapezoids over the distinct scores in rational arithmetic, cut at x = 1/5."""
    end, area, x, y = Fraction(1, 5), Fraction(0), Fraction(0), Fraction(0)
    positives, negatives = int(sum(target)), int(sum(1 - target))
    for value in sorted(set(score)):
        tied = target[score == value]
        dx, dy = Fraction(int(sum(tied)), positives), Fraction(int(sum(1 - tied)), negatives)
        width = min(dx, end - x)
        area += width * (y + dy * (width / dx if dx else 0) / 2)
        x, y = x + width, y + dy
        if x == end:
            break
    return area


def random_case(seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(4, 60 if seed % 2 else 600))
    target = np.zeros(rows)
    target[: 1 if seed % 5 == 0 else rng.integers(1, rows)] = 1
    logit = rng.normal(size=rows) + target * rng.uniform(-1, 3)
    kinds = (
        logit * 20,  # logits far beyond 1
        np.round(logit),  # ties within and between the classes
        1e-12 * np.exp(logit),  # where 1 - p in float32 is 1
        1 / (1 + np.exp(-logit)),
    )
    return rng.permutation(target) if seed % 7 == 0 else target, kinds[seed % 4]


@pytest.mark.parametrize("seed", range(200))
def test_pauc_equals_kaggles_code_and_exact_arithmetic(seed: int) -> None:
    target, score = random_case(seed)
    pauc = partial_auc(target, score)
    assert pauc == pytest.approx(kaggle_pauc(target, score), abs=1e-14)
    assert pauc == pytest.approx(float(exact_pauc(target, score)), abs=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_the_organisers_variant_above_88_percent_is_the_same_code_with_another_limit(seed: int) -> None:
    target, score = random_case(seed)
    pauc = partial_auc(target, score, min_tpr=0.88)
    assert pauc == pytest.approx(kaggle_pauc(target, score, min_tpr=0.88), abs=1e-14)
    assert pauc <= 0.12 + 1e-15


@pytest.mark.parametrize("seed", range(20))
def test_pauc_is_scikit_learns_partial_auc_without_its_mcclish_correction(seed: int) -> None:
    target, score = random_case(seed)
    corrected = sk.roc_auc_score(1 - target, -score, max_fpr=0.2)
    smallest, largest = 0.2**2 / 2, 0.2
    undone = (2 * corrected - 1) * (largest - smallest) + smallest
    assert partial_auc(target, score) == pytest.approx(undone, abs=1e-14)


def test_pauc_by_hand() -> None:
    target = np.array([0, 0, 0, 1, 1.0])
    assert partial_auc(target, np.zeros(5)) == pytest.approx(0.02)
    assert partial_auc(target, target) == pytest.approx(0.2)
    assert partial_auc(target, 1 - target) == 0.0
    # the lower positive outscores one negative of three, and the upper one is not looked at
    assert partial_auc(target, np.array([1, 3, 4, 2, 9.0])) == pytest.approx(0.2 / 3)


def test_pauc_depends_on_ranks_alone() -> None:
    target, score = random_case(3)
    assert partial_auc(target, score) == partial_auc(target, 1e-9 * score - 5) == partial_auc(target, np.exp(score))


@pytest.mark.parametrize("seed", range(20))
def test_auc_ap_and_balanced_accuracy_equal_scikit_learn(seed: int) -> None:
    target, score = random_case(seed)
    assert roc_auc(target, score) == pytest.approx(sk.roc_auc_score(target, score), abs=1e-14)
    assert average_precision(target, score) == pytest.approx(sk.average_precision_score(target, score), abs=1e-14)
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 7, size=300)
    predicted = np.where(rng.random(300) < 0.5, classes, rng.integers(0, 7, size=300))
    assert balanced_accuracy(classes, predicted) == pytest.approx(sk.balanced_accuracy_score(classes, predicted))


def test_classification_metrics_are_the_three_by_name() -> None:
    target, score = random_case(8)
    assert classification_metrics(target, score) == {
        "pauc": partial_auc(target, score),
        "auc": roc_auc(target, score),
        "ap": average_precision(target, score),
    }


@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        ([0, 1, 1], [0.1, np.nan, 0.3], r"score must be finite, got nan at row 1 \(1 such rows\)"),
        ([0, 1, 1], [0.1, np.inf, 0.3], "score must be finite, got inf at row 1"),
        ([0, np.nan, 1], [0.1, 0.2, 0.3], "target must be finite, got nan at row 1"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "target must be 0 or 1, got 2.0 at row 2"),
        ([0, 0], [0.1, 0.2], "both classes are needed, got 0 positives in 2 rows"),
        ([1, 1], [0.1, 0.2], "both classes are needed, got 2 positives in 2 rows"),
        ([], [], "both classes are needed, got 0 positives in 0 rows"),
        ([0, 1], [0.1, 0.2, 0.3], "target has 2 rows and what is compared with it 3"),
        ([0, 1], [[0.1], [0.2]], r"score must have the shape \(rows,\), got \(2, 1\)"),
    ],
)
def test_metrics_refuse_what_has_no_answer(target: list[float], score: list[float], message: str) -> None:
    for metric in (partial_auc, roc_auc, average_precision):
        with pytest.raises(ValueError, match=message):
            metric(target, score)


def test_other_refusals_name_the_value() -> None:
    with pytest.raises(ValueError, match="min_tpr must be in"):
        partial_auc([0, 1], [0, 1], min_tpr=1.0)
    with pytest.raises(
        ValueError, match=r"predicted must hold class numbers, got 0\.3 at row 1; threshold scores first"
    ):
        balanced_accuracy([0, 1], [0, 0.3])
    for wrong, message in (
        ({"repeats": 1}, "2\\+ repeats, got 1"),
        ({"level": 1.0}, "level must be between"),
        ({"groups": np.array(["a"] * 4)}, "2\\+ of them, got only 'a'|2\\+ of them, got only np.str_"),
        ({"groups": np.array(["a"] * 3)}, "got 3 for 4 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            bootstrap(roc_auc, [0, 1, 0, 1], [0, 1, 2, 3], **wrong)


def binormal(rng: np.random.Generator, positives: int, negatives: int, shift: float) -> tuple[Floats, Floats]:
    target = np.repeat([1.0, 0.0], [positives, negatives])
    return target, rng.normal(size=target.size) + shift * target


def binormal_pauc(shift: float) -> float:
    """Population pAUC: the mean height of the curve over the lowest fifth of the positives, times 0.2."""
    normal = NormalDist()
    x = (np.arange(2000) + 0.5) / 2000 * 0.2
    return float(np.mean([normal.cdf(normal.inv_cdf(value) + shift) for value in x])) * 0.2


def test_bootstrap_covers_the_true_value_about_as_often_as_it_says() -> None:
    rng, shift = np.random.default_rng(0), 2.0
    truth = binormal_pauc(shift)
    covered = 0
    for seed in range(100):
        target, score = binormal(rng, positives=60, negatives=200, shift=shift)
        interval = bootstrap(partial_auc, target, score, repeats=200, seed=seed)
        covered += interval.low <= truth <= interval.high
    assert 87 <= covered <= 100


@pytest.mark.parametrize(("positives", "noise"), [(79, 0.007), (393, 0.003)])
def test_bootstrap_sd_is_the_noise_measured_on_isic_2024(positives: int, noise: float) -> None:
    target, score = binormal(np.random.default_rng(1), positives, negatives=10_000, shift=2.3)
    interval = bootstrap(partial_auc, target, score, repeats=300)
    assert interval.value == pytest.approx(0.16, abs=0.015)
    assert interval.sd == pytest.approx(noise, rel=0.4)
    assert interval.low < interval.value < interval.high


def plain_auc(target: Floats, score: Floats) -> float:
    return float(sk.roc_auc_score(target, score))


@pytest.mark.parametrize("with_groups", [False, True])
def test_bootstrap_by_counts_equals_the_plain_definitions(with_groups: bool) -> None:
    rng = np.random.default_rng(2)
    target, score = binormal(rng, positives=10, negatives=80, shift=1.0)
    score = np.round(score, 1)
    groups = rng.integers(0, 20, size=target.size) if with_groups else None
    fast = bootstrap(partial_auc, target, score, groups, repeats=50)
    assert fast == pytest.approx(bootstrap(kaggle_pauc, target, score, groups, repeats=50), abs=1e-14)
    fast = bootstrap(roc_auc, target, score, groups, repeats=50)
    assert fast == pytest.approx(bootstrap(plain_auc, target, score, groups, repeats=50), abs=1e-14)


def test_an_interval_over_draws_holds_the_noise_of_both() -> None:
    rng = np.random.default_rng(3)
    target, score = binormal(rng, positives=30, negatives=200, shift=1.0)
    groups = rng.integers(0, 60, size=target.size)
    assert bootstrap_over_draws(roc_auc, target, [score], groups, repeats=60, seed=4) == bootstrap(
        roc_auc, target, score, groups, repeats=60, seed=4
    )
    other = rng.normal(size=target.size)
    both = bootstrap_over_draws(roc_auc, target, [score, other], groups, repeats=400)
    assert both.value == pytest.approx((roc_auc(target, score) + roc_auc(target, other)) / 2)
    lower, higher = (bootstrap(roc_auc, target, drawn, groups, repeats=400) for drawn in (other, score))
    assert both.low == pytest.approx(lower.low, abs=0.02)
    assert both.high == pytest.approx(higher.high, abs=0.02)
    with pytest.raises(ValueError, match="there are no scores"):
        bootstrap_over_draws(roc_auc, target, [], groups)


def test_rows_are_resampled_within_their_class_and_groups_as_wholes() -> None:
    target = np.repeat([0.0, 1.0], [30, 5])
    groups = np.tile(np.arange(5), 7)  # 6 negatives and 1 positive each
    seen: list[int] = []

    def positives_of_35(labels: Floats, score: Floats) -> float:
        assert labels.size == 35
        assert labels.sum() == 5
        seen.append(len(np.unique(score)))
        return 0.0

    bootstrap(positives_of_35, target, np.arange(35.0), repeats=20)
    bootstrap(positives_of_35, target, np.arange(35.0), groups, repeats=20)
    assert all(rows % 7 == 0 for rows in seen[-20:])
    assert any(rows % 7 for rows in seen[:-20])


def test_resamples_of_one_class_are_drawn_again() -> None:
    target = np.array([1.0] + [0.0] * 9)  # a plain draw of 10 groups misses the positive in 35 % of the cases
    calls: list[float] = []

    def positives(labels: Floats, score: Floats) -> float:
        calls.append(float(labels.sum()))
        return 0.0

    bootstrap(positives, target, np.arange(10.0), np.arange(10), repeats=100)
    assert len(calls) == 101
    assert min(calls) >= 1


def test_whole_patients_vary_more_than_rows_when_patients_differ() -> None:
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(40), 50)
    target = (rng.random(2000) < rng.beta(0.5, 2, size=40)[patient]).astype(float)
    score = target + rng.normal(size=2000) + 2 * rng.normal(size=40)[patient]
    by_row = bootstrap(roc_auc, target, score, repeats=200)
    by_patient = bootstrap(roc_auc, target, score, patient, repeats=200)
    assert by_row.value == by_patient.value
    assert by_patient.sd > 1.3 * by_row.sd


def test_paired_bootstrap_is_narrower_than_two_apart_and_zero_for_equals() -> None:
    rng = np.random.default_rng(4)
    target, score = binormal(rng, positives=100, negatives=1000, shift=2.0)
    other = score + rng.normal(scale=0.1, size=score.size)
    pair = paired_bootstrap(partial_auc, target, score, other, repeats=200)
    alone = bootstrap(partial_auc, target, score, repeats=200)
    assert pair.value == pytest.approx(partial_auc(target, score) - partial_auc(target, other), abs=1e-15)
    assert pair.sd < 0.5 * alone.sd
    assert paired_bootstrap(partial_auc, target, score, np.exp(score), repeats=20) == (0.0, 0.0, 0.0, 0.0)


def test_bootstrap_repeats_itself_at_a_seed_and_widens_with_the_level() -> None:
    target, score = binormal(np.random.default_rng(5), positives=30, negatives=100, shift=1.0)
    narrow = bootstrap(roc_auc, target, score, repeats=100, seed=1, level=0.5)
    assert narrow == bootstrap(roc_auc, target, score, repeats=100, seed=1, level=0.5)
    wide = bootstrap(roc_auc, target, score, repeats=100, seed=1)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide != bootstrap(roc_auc, target, score, repeats=100, seed=2)


def test_the_positives_among_a_patients_highest_scores_are_counted() -> None:
    """Patient a: places 1 and 3; b: a tie with the negative before it, so place 2; c: alone."""
    patient = np.array(list("aaaabbbc"))
    target = [1, 0, 1, 0, 1, 0, 0, 1]
    score = [0.9, 0.8, 0.7, 0.1, 0.5, 0.5, 0.2, 0.01]
    assert [top_k_sensitivity(target, score, patient, k) for k in (1, 2, 3)] == [2 / 4, 3 / 4, 1]
    many = np.repeat(["a", "b"], 40)
    rng = np.random.default_rng(0)
    target, score = (rng.random(80) < 0.3).astype(int), rng.random(80)
    found = sum(int(target[rows[np.argsort(-score[rows])[:15]]].sum()) for rows in (np.arange(40), np.arange(40, 80)))
    assert top_k_sensitivity(target, score, many) == pytest.approx(found / target.sum())
    with pytest.raises(ValueError, match="k be 1 or more, got 0"):
        top_k_sensitivity(target, score, many, 0)


def test_an_interval_says_itself() -> None:
    interval = Interval(0.8125, 0.75, 0.9, 0.04)
    assert f"{interval:.3f}" == "0.812 [0.750, 0.900]"
    assert interval.named("auc") == {"auc": 0.8125, "auc_low": 0.75, "auc_high": 0.9}
