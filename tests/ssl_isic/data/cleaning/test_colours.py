"""Colour: constancy, lightness, and other coordinates, each against its formula."""

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.cleaning.colour_constancy import shades_of_gray
from ssl_isic.data.cleaning.colour_spaces import hsv, lab
from ssl_isic.data.cleaning.illumination import clahe

Image = NDArray[np.uint8]


def paper_shades_of_gray(image: Image, p: float = 6) -> Image:
    """Finlayson and Trezzi 2004, equation 5, and von Kries' diagonal correction to white of the same length."""
    values = image.astype(np.float64)
    light = np.array([(values[..., c] ** p).mean() ** (1 / p) for c in range(3)])
    light /= np.sqrt((light**2).sum())
    return np.rint(np.minimum(values / (np.sqrt(3) * light), 255)).astype(np.uint8)


def test_shades_of_gray_is_the_formula(lesion: Image) -> None:
    np.testing.assert_array_equal(shades_of_gray(lesion), paper_shades_of_gray(lesion))
    noise = np.random.default_rng(1).integers(0, 256, (60, 51, 3), dtype=np.uint8)
    np.testing.assert_array_equal(shades_of_gray(noise), paper_shades_of_gray(noise))


def test_shades_of_gray_takes_a_coloured_light_away() -> None:
    scene = np.random.default_rng(2).integers(20, 150, (80, 90, 3)).astype(np.float64)
    lamps = np.array([1.3, 1.0, 0.7]), np.array([0.8, 1.0, 1.4])
    seen = [shades_of_gray(np.rint(scene * lamp).astype(np.uint8)).astype(int) for lamp in lamps]
    brightness = seen[0].mean() / seen[1].mean()
    assert np.abs(seen[0] - seen[1] * brightness).mean() < 1
    assert np.abs(scene * lamps[0] - scene * lamps[1] * brightness).mean() > 20


def test_shades_of_gray_leaves_gray_and_black_alone() -> None:
    gray = np.repeat(np.random.default_rng(3).integers(0, 256, (51, 51, 1), dtype=np.uint8), 3, axis=2)
    np.testing.assert_array_equal(shades_of_gray(gray), gray)
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 90
    np.testing.assert_array_equal(shades_of_gray(red), red)


def paper_clahe_of_one_tile(lightness: Image, limit: float) -> Image:
    """Zuiderveld 1994: the histogram is cut at `limit` times its mean, what is cut is spread evenly, the sum is the map."""
    histogram = np.bincount(lightness.ravel(), minlength=256)
    ceiling = int(limit * lightness.size / 256)
    spread = np.minimum(histogram, ceiling).astype(float)
    spread += (histogram.sum() - spread.sum()) / 256
    return np.rint(np.cumsum(spread) * 255 / lightness.size)[lightness].astype(np.uint8)


def test_clahe_is_the_papers_on_lightness() -> None:
    gray = np.random.default_rng(5).normal(120, 25, (44, 46, 1)).clip(0, 255).astype(np.uint8)
    image = np.repeat(gray, 3, axis=2)
    expected = paper_clahe_of_one_tile(lab(image)[..., 0], limit=2)
    # OpenCV spreads what is cut in whole counts
    assert np.abs(lab(clahe(image))[..., 0].astype(int) - expected).max() <= 6
    assert np.abs(lab(image)[..., 0].astype(int) - expected).max() > 15


def test_clahe_keeps_colours_and_raises_contrast_twofold_at_most(lesion: Image) -> None:
    width = lesion.shape[1]
    dim = np.rint(lesion * np.linspace(1, 0.3, width)[:, None]).astype(np.uint8)
    before, after = lab(dim).astype(int), lab(clahe(dim)).astype(int)
    assert np.abs(after[..., 1:] - before[..., 1:]).mean() < 3
    strip = slice(0, len(lesion) // 6)  # skin
    roughness = [np.diff(part[strip, :, 0], axis=0).std() for part in (before, after)]
    assert 1.2 < roughness[1] / roughness[0] < 3


@pytest.mark.parametrize(("rgb", "expected"), [((255, 255, 255), (100, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20))])
def test_lab_is_the_cies(rgb: tuple[int, int, int], expected: tuple[float, float, float]) -> None:
    lightness, a, b = lab(np.full((2, 2, 3), rgb, np.uint8))[0, 0].astype(float)
    np.testing.assert_allclose((lightness * 100 / 255, a - 128, b - 128), expected, atol=1.0)


def test_hsv_is_the_standard_librarys() -> None:
    image = np.random.default_rng(4).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    expected = [[colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in row] for row in image.astype(float)]
    turn = np.array([256, 255, 255])
    difference = hsv(image).astype(float) - np.array(expected) * turn
    difference[..., 0] = (difference[..., 0] + 128) % 256 - 128
    assert np.abs(difference).max() <= 1.5
