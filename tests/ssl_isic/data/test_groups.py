"""Groups: partners of the same lesion, batches balanced by clinic."""

import numpy as np

from ssl_isic.data.decks import dealt
from ssl_isic.data.groups import BalancedByGroup, SameGroup, numbered


def test_unknown_images_are_no_ones() -> None:
    numbers = numbered(np.array(["a", "", "b", "", "a"]))
    assert numbers[0] == numbers[4]
    assert len(set(numbers.tolist())) == 4


def test_a_partner_is_another_photograph_of_the_same_lesion_each_equally_often() -> None:
    group = np.array([7, 3, 7, 7, 9, 3])
    same, rng = SameGroup(group), np.random.default_rng(0)
    drawn = np.array([[same.other(row, rng) for row in range(len(group))] for _ in range(600)])
    assert (drawn[:, 4] == 4).all(), "alone in its group"
    assert set(drawn[:, 1]) == {5}
    assert set(drawn[:, 5]) == {1}
    for row, others in ((0, (2, 3)), (2, (0, 3)), (3, (0, 2))):
        counts = [int((drawn[:, row] == other).sum()) for other in others]
        assert sum(counts) == 600
        assert min(counts) > 240


def test_any_draws_in_a_row_hold_every_clinic_once() -> None:
    group = np.repeat([4, 5, 9], [70, 20, 9])
    order = BalancedByGroup(group, seed=3)
    rows = order.epoch(2)
    assert len(rows) == len(order) == 99
    assert all(sorted(group[rows[start : start + 3]].tolist()) == [4, 5, 9] for start in range(0, 99, 3))
    assert np.array_equal(rows, BalancedByGroup(group, seed=3).epoch(2))
    assert not np.array_equal(rows, order.epoch(1))


def test_over_the_epochs_all_rows_of_a_large_clinic_come_before_one_comes_again() -> None:
    group = np.repeat([0, 1], [80, 20])  # 50 draws each an epoch
    order = BalancedByGroup(group, seed=0)
    drawn = np.concatenate([order.epoch(epoch) for epoch in range(8)])
    counts = np.bincount(drawn, minlength=100)
    assert set(counts[:80].tolist()) == {5}
    assert set(counts[80:].tolist()) == {20}


def test_decks_are_dealt_alike_however_they_are_cut() -> None:
    rows = np.arange(10, 17)
    whole = dealt(rows, 0, 21, (1, 2))
    parts = np.concatenate([dealt(rows, start, start + 3, (1, 2)) for start in range(0, 21, 3)])
    assert np.array_equal(whole, parts)
    assert all(sorted(whole[start : start + 7].tolist()) == rows.tolist() for start in (0, 7, 14))
