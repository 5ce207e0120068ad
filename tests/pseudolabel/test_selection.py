"""Pseudo-labels are taken by quota for each class, never by one fixed cut."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pseudolabel.selection import Selection, SelectionConfig, select


def scores(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).beta(0.5, 6, count)


def chosen(selection: Selection, label: int) -> list[int]:
    return selection.rows[selection.label == label].tolist()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 7.5, 1000.0])
@pytest.mark.parametrize("usable_share", [0.0, 0.02, 0.7, 1.0])
def test_quotas_are_of_usable_rows_and_never_exceed_them(share: float, ratio: float, usable_share: float) -> None:
    p = scores(300)
    usable = np.random.default_rng(1).random(300) < usable_share
    selection = select(p, usable, SelectionConfig(positive_share=share, negatives_per_positive=ratio), 1)
    positives, negatives = chosen(selection, 1), chosen(selection, 0)
    assert len({*positives, *negatives}) == len(positives) + len(negatives) == len(selection.rows)
    assert usable[selection.rows].all()
    assert selection.expected_positives == pytest.approx(p[usable].sum())
    assert len(positives) == selection.positive_quota == round(share * p[usable].sum())
    left = int(usable.sum()) - len(positives)
    assert len(negatives) == selection.negative_quota == min(round(ratio * len(positives)), left)


def test_each_class_gets_its_most_certain() -> None:
    p = scores(500)
    selection = select(p, np.ones(500, bool), SelectionConfig(positive_share=0.4, negatives_per_positive=5), 1)
    ranked = np.argsort(-p).tolist()
    positives, negatives = chosen(selection, 1), chosen(selection, 0)
    assert positives == ranked[: len(positives)]
    assert sorted(negatives) == sorted(ranked[-len(negatives) :])


def test_the_quota_grows_by_round_up_to_what_is_expected() -> None:
    p = np.full(1000, 0.1)
    config = SelectionConfig(positive_share=0.3, share_growth=0.2)
    quotas = [select(p, np.ones(1000, bool), config, number).positive_quota for number in range(1, 7)]
    assert quotas == [30, 50, 70, 90, 100, 100]


def test_at_a_tenth_of_a_percent_positives_are_admitted_though_none_passes_a_cut() -> None:
    """FACTS, trap 15: a fixed cut at 0.95 admits only negatives."""
    rng = np.random.default_rng(3)
    p = rng.beta(0.05, 49.95, 100_000)
    p *= 0.001 * p.size / p.sum()
    assert p.max() < 0.95
    assert ((1 - p) > 0.95).mean() > 0.99, "the cut would take nearly every one as benign"
    selection = select(p, np.ones(p.size, bool), SelectionConfig(), 1)
    assert len(chosen(selection, 1)) == 30, "0.3 of the 100 that are expected"
    assert len(chosen(selection, 0)) == 300
    assert p[chosen(selection, 1)].min() > p[chosen(selection, 0)].max()


def test_ties_go_to_the_earlier_row() -> None:
    p = np.array([0.5, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1])
    config = SelectionConfig(positive_share=0.6, negatives_per_positive=1)
    selection = select(p, np.ones(8, bool), config, 1)
    assert chosen(selection, 1) == [1, 2]  # 0.6 of 3.6 expected
    assert chosen(selection, 0) == [4, 5]
    flat = select(np.full(50, 0.2), np.ones(50, bool), SelectionConfig(positive_share=0.5, negatives_per_positive=2), 1)
    assert chosen(flat, 1) == [0, 1, 2, 3, 4]
    assert chosen(flat, 0) == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]


def test_nothing_is_expected_of_nothing() -> None:
    for p in (np.zeros(20), np.empty(0)):
        selection = select(p, np.ones(p.size, bool), SelectionConfig(), 1)
        assert (selection.rows.size, selection.positive_quota, selection.negative_quota) == (0, 0, 0)
