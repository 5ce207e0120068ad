"""Style transfer: Fourier amplitudes against the full transform, Reinhard's against his equations."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.augmentations.fourier_style import fourier_style, low_amplitudes
from ssl_isic.data.augmentations.reinhard import LabStatistics, reinhard, skin_statistics
from ssl_isic.data.steps.step import Image


def by_full_transform(image: Image, other: Image, highest: int, share: float) -> NDArray[np.float64]:
    """FDA's equation 3 with a mixed amplitude: the low part of `other`'s amplitude, `image`'s phase."""
    ours, theirs = (np.fft.fft2(each, axes=(0, 1)) for each in (image, other))
    height, width, _ = image.shape
    down = np.abs(np.fft.fftfreq(height, 1 / height)) <= highest
    across = np.abs(np.fft.fftfreq(width, 1 / width)) <= highest
    low = (down[:, None] & across)[..., None]
    amplitude = np.where(low, (1 - share) * np.abs(ours) + share * np.abs(theirs), np.abs(ours))
    return np.fft.ifft2(amplitude * np.exp(1j * np.angle(ours)), axes=(0, 1)).real


@pytest.mark.parametrize("highest", [0, 1, 3])
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("size", [(32, 32), (31, 46)])
def test_it_is_fda(highest: int, share: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, other = (rng.integers(low, low + 60, (*size, 3)).astype(np.uint8) for low in (90, 110))
    styled = fourier_style(image, low_amplitudes(other, highest), share, most_gain=math.inf)
    expected = by_full_transform(image, other, highest, share).clip(0, 255)
    assert np.abs(styled - expected).max() < 0.51


def test_its_own_amplitudes_change_nothing(lesion: Image) -> None:
    assert np.array_equal(fourier_style(lesion, low_amplitudes(lesion, 2)), lesion)


def test_amplitudes_of_a_larger_image_compare(lesion: Image) -> None:
    twice = cv2.resize(lesion, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    assert np.allclose(low_amplitudes(lesion, 2), low_amplitudes(twice, 2), rtol=0.02, atol=0.1)
    assert np.allclose(low_amplitudes(lesion, 1)[1, 0], lesion.mean(axis=(0, 1)), atol=1e-3)


def test_a_frequency_that_is_hardly_there_is_not_blown_up() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    image[0, 0] = 123
    amplitudes = np.full((3, 2, 3), 40.0)
    amplitudes[1, 0] = 120
    assert np.abs(fourier_style(image, amplitudes).astype(int) - image).max() <= 1
    assert np.abs(fourier_style(image, amplitudes, most_gain=math.inf).astype(int) - image).max() > 60


def test_the_skin_takes_the_means_and_spreads_of_the_style(lesion: Image) -> None:
    style = LabStatistics((140.0, 140.0, 150.0), (2.5, 1.2, 1.5))
    after = skin_statistics(reinhard(lesion, style))
    assert after is not None
    assert after.mean == pytest.approx(style.mean, abs=1.0)
    assert after.spread == pytest.approx(style.spread, rel=0.5)


def test_reinhards_equations_on_one_lab_image(lesion: Image) -> None:
    style, own = LabStatistics((150.0, 145.0, 140.0), (3.0, 1.5, 1.5)), skin_statistics(lesion)
    assert own is not None
    lab = cv2.cvtColor(lesion, cv2.COLOR_RGB2LAB).astype(np.float64)
    moved = (lab - own.mean) * np.clip(np.divide(style.spread, own.spread), 0.6, 1.6) + style.mean
    expected = cv2.cvtColor(np.rint(lab + 0.5 * (moved - lab)).clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    assert np.array_equal(reinhard(lesion, style, share=0.5), expected)


def test_the_size_of_the_lesion_is_no_colour(lesion: Image) -> None:
    """By the statistics of the whole image, as in the paper, skin around a larger lesion would come out lighter."""
    style = LabStatistics((150.0, 145.0, 140.0), (3.0, 1.5, 1.5))
    larger = lesion.copy()
    cv2.circle(larger, (75, 60), 42, (120, 75, 55), -1)
    assert np.array_equal(reinhard(larger, style)[:15], reinhard(lesion, style)[:15])


def test_a_black_edge_has_no_style() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    assert skin_statistics(image) is None
    assert reinhard(image, LabStatistics((150.0, 145.0, 140.0), (3.0, 1.5, 1.5))) is image
