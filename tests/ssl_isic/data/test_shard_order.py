"""An order over shards: every image once, few shards at a time, and nothing but seed and epoch decides."""

import numpy as np
import pytest

from ssl_isic.data.shard_order import WindowedOrder, take_from_few_shards

RNG = np.random.default_rng(3)
SIZES = RNG.integers(5, 15, size=13)
SHARD = RNG.permutation(np.concatenate([np.repeat(np.arange(13), SIZES), np.full(40, -1)]))
SOURCE = np.array([0] * 9 + [2] * 4)


@pytest.mark.parametrize("window", [1, 3, 20])
def test_every_row_once_an_epoch_and_a_window_of_shards_at_a_time(window: int) -> None:
    order = WindowedOrder(SHARD, SOURCE, window, seed=7)
    rows = order.epoch(2)
    assert len(order) == len(SHARD)
    assert np.array_equal(np.sort(rows), np.arange(len(SHARD)))
    shards = SHARD[rows]
    first = np.array([np.flatnonzero(shards == shard)[0] for shard in range(13)])
    last = np.array([np.flatnonzero(shards == shard)[-1] for shard in range(13)])
    in_play = [np.count_nonzero((first <= at) & (at <= last)) for at in range(len(rows))]
    assert max(in_play) <= window
    in_order = np.argsort(first)
    for start in range(0, 13, window):
        together, after = in_order[start : start + window], in_order[start + window :]
        assert last[together].max() < min(first[after], default=len(rows))


def test_images_are_shuffled_within_a_window_and_loose_ones_spread_over_all() -> None:
    rows = WindowedOrder(SHARD, SOURCE, 3, seed=7).epoch(0)
    first = SHARD[rows[:20]]
    assert len(np.unique(first[first >= 0])) == 3
    assert np.count_nonzero(np.diff(first)) > 10, "shards and loose images are mixed"
    loose = np.flatnonzero(SHARD[rows] < 0)
    quarters = np.bincount(loose * 4 // len(rows), minlength=4)
    assert quarters.min() >= 6, "of 40"


def test_sources_are_spread_over_an_epoch() -> None:
    order = WindowedOrder(SHARD, SOURCE, 4, seed=0)
    for epoch in range(20):
        shards = list(dict.fromkeys(SHARD[order.epoch(epoch)].tolist()))
        places = [place for place, shard in enumerate(s for s in shards if s >= 0) if SOURCE[shard] == 2]
        assert places[0] < 8
        assert places[-1] > 4


def test_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    order, other = (WindowedOrder(SHARD, SOURCE, 3, seed) for seed in (7, 8))
    first = order.epoch(5)
    order.epoch(1)
    assert np.array_equal(order.epoch(5), first)
    assert not np.array_equal(order.epoch(6), first)
    assert not np.array_equal(other.epoch(5), first)
    firsts = {int(SHARD[order.epoch(epoch)[SHARD[order.epoch(epoch)] >= 0][0]]) for epoch in range(30)}
    assert len(firsts) > 6, "another shard comes first in another epoch"


def test_a_draw_from_few_shards_takes_as_many_of_each_source() -> None:
    candidates = np.random.default_rng(0).permutation(len(SHARD))
    taken = take_from_few_shards(candidates, 40, SHARD, SOURCE)
    assert len(np.unique(taken)) == 40
    for source in (0, 2):
        own = np.isin(SHARD, np.flatnonzero(source == SOURCE))
        assert own[taken].sum() == own[candidates[:40]].sum()
        shards = np.unique(SHARD[taken[own[taken]]])
        first = np.flatnonzero(source == SOURCE)[: len(shards)]
        assert np.array_equal(shards, first)
        assert SIZES[first[:-1]].sum() < own[taken].sum(), "no shard more than needed"
    loose = SHARD[candidates[:40]] < 0
    assert np.array_equal(taken[loose], candidates[:40][loose])
    assert np.array_equal(take_from_few_shards(candidates, 9, np.full_like(SHARD, -1), SOURCE[:0]), candidates[:9])
