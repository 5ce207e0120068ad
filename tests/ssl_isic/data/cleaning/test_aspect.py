"""Squares without stretching."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.cleaning.aspect import crop_square, pad_square, resize_cropped, resize_padded

Image = NDArray[np.uint8]


@pytest.mark.parametrize(("shape", "box"), [((60, 101), np.s_[20:80, :]), ((101, 60), np.s_[:, 20:80])])
def test_padding_keeps_every_pixel_and_adds_the_edges_colour(shape: tuple[int, int], box: tuple[slice, slice]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image[[0, -1]] = image[:, [0, -1]] = (200, 150, 140)
    square = pad_square(image)
    assert square.shape == (101, 101, 3)
    np.testing.assert_array_equal(square[box], image)
    bars = np.ones((101, 101), bool)
    bars[box] = False
    assert (square[bars] == (200, 150, 140)).all()


def test_cropping_keeps_the_middle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 101, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_square(image), image[:, 20:80])
    np.testing.assert_array_equal(crop_square(image.transpose(1, 0, 2)), image.transpose(1, 0, 2)[20:80])


def test_a_square_is_left_alone(lesion: Image) -> None:
    if lesion.shape[0] == lesion.shape[1]:
        assert pad_square(lesion) is lesion
        assert crop_square(lesion) is lesion


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("resize", [resize_padded, resize_cropped])
def test_a_round_lesion_stays_round(lesion: Image, resize: object, size: int) -> None:
    resized = resize(lesion, size)  # type: ignore[operator]
    assert resized.shape == (size, size, 3)
    dark = (cv2.GaussianBlur(resized, (3, 3), 0)[..., 0] < 150).astype(np.uint8)
    _, _, width, height = cv2.boundingRect(dark)
    assert abs(width - height) <= 1 + size // 100
