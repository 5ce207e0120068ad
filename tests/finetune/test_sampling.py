"""The sampler goes through all negatives. A winning code's ever drew only 628 of 320,000."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune.sampling import BalancedOrder
from ssl_isic.data.loading import BatchLayout, TrainingStream
from ssl_isic.errors import InputError


def mask(positives: int, negatives: int) -> NDArray[np.bool_]:
    """`positives` True among `negatives` False, mixed."""
    return np.random.default_rng(0).permutation(np.repeat([True, False], [positives, negatives]))


def order_of(positive: NDArray[np.bool_], ratio: float, seed: int) -> BalancedOrder:
    """Rows that all weigh one."""
    return BalancedOrder(positive, np.ones(len(positive)), ratio, seed)


CASES = [(5, 40, 3.0), (7, 31, 2.0), (3, 10, 1.5), (4, 3, 5.0), (6, 100, 0.3), (1, 17, 0.01)]


@pytest.mark.parametrize(("positives", "negatives", "ratio"), CASES)
def test_each_epoch_shows_every_positive_once_and_the_ratio_of_negatives(
    positives: int, negatives: int, ratio: float
) -> None:
    positive = mask(positives, negatives)
    order = order_of(positive, ratio, seed=1)
    for epoch in range(12):
        rows = order.epoch(epoch)
        assert sorted(rows[positive[rows]]) == np.flatnonzero(positive).tolist()
        assert len(rows) == len(order) == positives + max(1, round(ratio * positives))


@pytest.mark.parametrize(("positives", "negatives", "ratio"), CASES)
def test_no_negative_comes_again_before_all_have_come(positives: int, negatives: int, ratio: float) -> None:
    positive = mask(positives, negatives)
    order = order_of(positive, ratio, seed=1)
    shown: Counter[int] = Counter()
    epochs = 3 * negatives  # even at one an epoch, three decks
    for epoch in range(epochs):
        rows = order.epoch(epoch)
        shown.update(rows[~positive[rows]].tolist())
        counts = [shown[row] for row in np.flatnonzero(~positive).tolist()]
        assert max(counts) - min(counts) <= 1
    assert len(shown) == negatives


@pytest.mark.parametrize(("positives", "negatives", "ratio"), CASES)
@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 1), (3, 2), (5, 3), (40, 4)])
def test_distinct_negatives_are_those_that_training_is_given(
    positives: int, negatives: int, ratio: float, epochs: int, batch_size: int
) -> None:
    positive = mask(positives, negatives)
    batch_size = min(batch_size, len(order_of(positive, ratio, seed=2)))
    order = BalancedOrder(positive, np.ones(len(positive)), ratio, seed=2, batch_size=batch_size)
    steps = epochs * (len(order) // batch_size) - (epochs > 1)  # a run may end within an epoch
    batches = TrainingStream(order, BatchLayout(batch_size), 0, steps)
    counted = {draw.row for batch in batches for draw in batch if not positive[draw.row]}
    assert order.distinct_negatives(steps) == len(counted)


def test_positives_that_weigh_less_draw_fewer_negatives() -> None:
    """Labels of weight 1 and pseudo-labels of 0.25: the weights of both classes stand as the ratio says."""
    positive = mask(8, 200)
    weight = np.ones(len(positive))
    weight[np.flatnonzero(positive)[:4]] = 0.25
    rows = BalancedOrder(positive, weight, 6.0, seed=0).epoch(0)
    assert sorted(rows[positive[rows]]) == np.flatnonzero(positive).tolist()
    assert (~positive[rows]).sum() == 6 * (4 + 4 * 0.25) == weight[rows][~positive[rows]].sum()


@pytest.mark.parametrize(
    ("positives", "ratio", "batch_size"), [(31, 3.0, 64), (63, 3.0, 128), (5, 4.0, 25), (5, 4.0, 24)]
)
def test_training_sees_every_positive_once_an_epoch(positives: int, ratio: float, batch_size: int) -> None:
    positive = mask(positives, 500)
    order = BalancedOrder(positive, np.ones(len(positive)), ratio, seed=0, batch_size=batch_size)
    steps = len(order) // batch_size
    drawn = [draw.row for batch in TrainingStream(order, BatchLayout(batch_size), 0, 2 * steps) for draw in batch]
    seen = Counter(row for row in drawn if positive[row])
    assert seen == dict.fromkeys(np.flatnonzero(positive).tolist(), 2)
    assert max(Counter(row for row in drawn if not positive[row]).values()) == 1
    assert 0 <= len(order) - positives * (1 + ratio) < batch_size


def test_an_epoch_is_a_function_of_its_number_and_the_seed() -> None:
    positive = mask(6, 50)
    order, again = (order_of(positive, 3.0, seed=4) for _ in range(2))
    for epoch in (7, 0, 3):  # out of order, as a resumed run asks
        assert order.epoch(epoch).tolist() == again.epoch(epoch).tolist()
    assert order.epoch(0).tolist() != order.epoch(1).tolist()
    assert order.epoch(0).tolist() != order_of(positive, 3.0, seed=5).epoch(0).tolist()


def test_positives_and_negatives_are_mixed_within_an_epoch() -> None:
    positive = mask(50, 500)
    places = np.flatnonzero(positive[order_of(positive, 3.0, seed=0).epoch(0)])
    assert 70 < places.mean() < 130, "the mean place of 50 in 200 is near 100 when they are mixed"


@pytest.mark.parametrize(("value", "kind"), [(False, "positives"), (True, "negatives")])
def test_one_class_alone_is_refused(value: bool, kind: str) -> None:
    with pytest.raises(InputError, match=f"the training rows hold no {kind}"):
        order_of(np.full(9, value), 3.0, seed=0)
