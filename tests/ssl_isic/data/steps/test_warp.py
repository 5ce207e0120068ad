"""Rotation and zoom against cases that are known without interpolation."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.steps.warp import Rotate, Zoom

Image = NDArray[np.uint8]


@pytest.mark.parametrize(("degrees", "quarters"), [(0.0, 0), (90.0, 1), (180.0, 2), (-90.0, -1)])
def test_quarter_turns_are_numpys(image: Image, degrees: float, quarters: int) -> None:
    made = Rotate().apply(image, (degrees,))
    assert np.abs(made.astype(int) - np.rot90(image, quarters)).max() <= 1


def test_beyond_the_border_is_the_image_mirrored(image: Image) -> None:
    made = Rotate().apply(np.full_like(image, 90), (33.0,))
    assert made.min() == made.max() == 90
    shrunk = Zoom().apply(image, (0.5,))
    mirrored = cv2.copyMakeBorder(image, 32, 32, 32, 32, cv2.BORDER_REFLECT_101)
    expected = cv2.resize(mirrored, (64, 64), interpolation=cv2.INTER_NEAREST)
    assert np.abs(shrunk.astype(int) - expected)[4:-4, 4:-4].mean() < 8


def test_zoom_shows_the_middle(image: Image) -> None:
    made = Zoom().apply(image, (2.0,))
    expected = cv2.resize(image[16:48, 16:48], (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(made.astype(int) - expected)[2:-2, 2:-2].max() <= 4


def test_what_is_drawn_keeps_to_the_limits() -> None:
    rng = np.random.default_rng(0)
    degrees = np.array([Rotate(degrees=30).draw(rng, 8, 8)[0] for _ in range(1000)])
    factors = np.array([Zoom(factor=(0.5, 2.0)).draw(rng, 8, 8)[0] for _ in range(1000)])
    assert -30 <= degrees.min() < -29 < 29 < degrees.max() <= 30
    assert 0.5 <= factors.min() < 0.52 < 1.9 < factors.max() <= 2
    assert np.median(factors) == pytest.approx(1, abs=0.08)
