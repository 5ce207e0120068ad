"""Black around the field of view is cut away, and only that."""

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.cleaning.border import crop_border, largest_rectangle, lit_box

Image = NDArray[np.uint8]


@pytest.mark.parametrize(("height", "width"), [(51, 51), (150, 200), (450, 600), (1200, 1600)])
def test_a_black_circle_is_cropped_to_the_rectangle_inside_it(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), (205, 165, 150), np.uint8)
    radius = 0.6 * width
    image[np.hypot(y - height / 2, x - width / 2) > radius] = 4
    top, bottom, left, right = lit_box(image)
    # the largest rectangle in the circle that is no taller than the image; with t its half height, t * sqrt(r^2 - t^2)
    half_height = min(height / 2, radius / np.sqrt(2))
    half_width = min(width / 2, np.sqrt(radius**2 - half_height**2))
    inside = np.array([height / 2 - half_height, width / 2 - half_width])
    tolerance = 2 + 0.025 * width
    np.testing.assert_allclose((top, left), inside, atol=tolerance)
    np.testing.assert_allclose((height - bottom, width - right), inside, atol=tolerance)
    cropped = crop_border(image)
    np.testing.assert_array_equal(cropped, image[top:bottom, left:right])
    assert (cropped.min(axis=2) < 100).mean() < 1e-4  # a pixel of a corner, at most


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
@pytest.mark.parametrize("size", [51, 131, 600])
def test_a_black_bar_is_cut_off(side: str, size: int) -> None:
    image = np.full((size, size, 3), (205, 165, 150), np.uint8)
    bar = size // 4
    cut = {"top": np.s_[:bar], "bottom": np.s_[-bar:], "left": np.s_[:, :bar], "right": np.s_[:, -bar:]}[side]
    image[cut] = 0
    top, bottom, left, right = lit_box(image)
    expected = {"top": 0, "bottom": size, "left": 0, "right": size}
    expected[side] = bar if side in ("top", "left") else size - bar
    np.testing.assert_allclose((top, bottom, left, right), list(expected.values()), atol=2 + 0.01 * size)
    assert crop_border(image).min() > 100


def test_a_black_lesion_is_no_border() -> None:
    image = np.full((150, 200, 3), (205, 165, 150), np.uint8)
    cv2.circle(image, (100, 75), 50, (20, 15, 14), -1)
    assert crop_border(image) is image
    cv2.circle(image, (100, 75), 90, (20, 15, 14), -1)
    assert image[0, 0, 0] == 205
    assert crop_border(image) is image
    image[:] = (25, 20, 18)  # nothing but lesion
    assert crop_border(image) is image


def test_the_largest_rectangle_is_that_of_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        lit = rng.random(rng.integers(1, 8, 2)) < 0.75
        height, width = lit.shape
        boxes = itertools.product(
            itertools.combinations(range(height + 1), 2), itertools.combinations(range(width + 1), 2)
        )
        areas = [(b - t) * (e - s) for (t, b), (s, e) in boxes if lit[t:b, s:e].all()]
        top, bottom, left, right = largest_rectangle(lit)
        assert (bottom - top) * (right - left) == max(areas, default=0)
        assert lit[top:bottom, left:right].all()
