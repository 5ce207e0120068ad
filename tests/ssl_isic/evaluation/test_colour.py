"""The twelve colour numbers, against cases worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from ssl_isic.data.images import ImagePool
from ssl_isic.evaluation.colour import COLOUR_NUMBERS, colour_features, colour_numbers


def test_a_plain_image_has_its_colour_and_no_spread() -> None:
    white = np.full((40, 60, 3), 255, np.uint8)
    # 8-bit Lab of white: L 255, a and b at their zero, 128
    expected = [255, 128, 128, 255, 128, 128, 0, 0, 0, 0, 0, 0]
    assert colour_numbers(white) == pytest.approx(expected, abs=1e-5)


def test_the_centre_is_the_middle_half_of_each_side() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[2:6, 2:6] = 255
    numbers = colour_numbers(image)
    lightness = np.zeros(64)
    lightness[:16] = 255
    assert numbers[0] == pytest.approx(lightness.mean())
    assert numbers[3] == pytest.approx(255)
    assert numbers[6] == pytest.approx(lightness.std())
    assert numbers[9] == pytest.approx(0, abs=1e-5)


def test_an_image_that_is_not_there_gets_zeros(lesions: Path) -> None:
    pool = ImagePool({"lesions": lesions})
    features = colour_features(pool, np.array([3, -1]))
    assert features.shape == (2, COLOUR_NUMBERS)
    assert features[0].min() > 0
    assert not features[1].any()
