"""Boxes are painted in the mean colour, as many and as large as asked."""

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.steps.dropout import CoarseDropout

Image = NDArray[np.uint8]


def test_one_box_of_fixed_size(image: Image) -> None:
    step, rng = CoarseDropout(most_boxes=1, side=(0.25, 0.25)), np.random.default_rng(0)
    before, corners = image.copy(), set()
    for _ in range(20):
        drawn = step.draw(rng, 64, 64)
        made = step.apply(image, drawn)
        np.testing.assert_array_equal(made, step.apply(image, drawn))
        rows, columns = np.nonzero((made != image).any(axis=2))
        assert np.ptp(rows) <= 15
        assert np.ptp(columns) <= 15
        painted = made[rows, columns]
        assert np.abs(painted - image.mean(axis=(0, 1))).max() <= 0.51
        corners.add((rows.min(), columns.min()))
    assert len(corners) > 15
    np.testing.assert_array_equal(image, before)


def test_more_boxes_cover_more() -> None:
    rng, image = np.random.default_rng(0), np.zeros((80, 80, 3), np.uint8)
    image[::2] = 255
    counts = set()
    for _ in range(100):
        drawn = CoarseDropout(most_boxes=3, side=(0.1, 0.2)).draw(rng, 80, 80)
        counts.add(int(drawn[0]))
        share = (CoarseDropout(side=(0.1, 0.2)).apply(image, drawn) != image).any(axis=2).mean()
        assert 0.009 <= share <= drawn[0] * 0.2**2 + 1e-9
    assert counts == {1, 2, 3}
