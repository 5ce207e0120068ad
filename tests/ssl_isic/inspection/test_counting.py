"""Counts by hand, Wilson's interval against scipy's."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_isic.inspection.annotations import Column
from ssl_isic.inspection.counting import counts_of, share_of, sizes_of, wilson
from ssl_isic.inspection.scanning import RECORD, State


@pytest.mark.parametrize(("positives", "rows"), [(0, 1), (0, 30), (1, 30), (15, 30), (30, 30), (393, 401_059)])
def test_wilson_is_scipys(positives: int, rows: int) -> None:
    other = binomtest(positives, rows).proportion_ci(method="wilson")
    assert wilson(positives, rows) == pytest.approx((other.low, other.high), rel=1e-9, abs=1e-12)


def test_wilson_of_nothing_is_not_a_number_and_of_nonsense_an_error() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))
    with pytest.raises(ValueError, match="between 0 and 3"):
        wilson(4, 3)


def test_shares_leave_unlabelled_images_out() -> None:
    share = share_of(np.array([1, 0, -1, 0, 1], np.int8), np.array([True, True, True, True, False]))
    assert (share.positives, share.labelled, share.value) == (1, 3, pytest.approx(1 / 3))


def test_counts_are_the_commonest_first_and_ages_in_order() -> None:
    column = Column(np.array([1, 0, 1, -1, 1, 0], np.int32), ["a", "b", "unused"], {"here": "site"})
    target = np.array([1, 0, 0, 1, -1, 0], np.int8)
    counts = counts_of("site", column, target, np.array([True] * 5 + [False]))
    assert [(one.value, one.images) for one in counts.values] == [("b", 3), ("a", 1)]
    assert [(one.share.positives, one.share.labelled) for one in counts.values] == [(1, 2), (0, 1)]
    assert counts.missing == 1
    assert [one.value for one in counts_of("age", column, target, np.ones(6, bool)).values] == ["a", "b"]


def test_sizes_of_images_that_decode() -> None:
    records = np.zeros(4, RECORD)
    records["width"], records["height"], records["bytes"] = [10, 10, 30, 0], [20, 20, 10, 0], 5
    records["state"][3] = State.TRUNCATED
    sizes = sizes_of(records)
    assert sizes is not None
    assert sizes.common == [(10, 20, 2), (30, 10, 1)]
    assert (sizes.images, sizes.distinct, sizes.median_side, sizes.total_bytes) == (3, 2, 20, 20)
    assert (sizes.smallest, sizes.largest) == ((10, 20), (30, 10))
    assert sum(sizes.side_counts) == 3
    assert sizes_of(records[3:]) is None
