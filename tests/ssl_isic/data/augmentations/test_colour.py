"""Colorimetry against OpenCV's and against values of the standard."""

import cv2
import numpy as np
import pytest

from ssl_isic.data.augmentations.colour import LINEAR_LEVELS, lab_of, linear_of, srgb_of


def test_lab_is_opencvs() -> None:
    colours = np.random.default_rng(0).random((500, 3))
    theirs = cv2.cvtColor(colours[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    assert np.allclose(lab_of(linear_of(colours)), theirs, atol=0.4)  # OpenCV interpolates in a table


@pytest.mark.parametrize(
    ("srgb", "lab"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_the_corners(srgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert np.allclose(lab_of(linear_of(np.array(srgb))), lab, atol=0.05)


def test_there_and_back() -> None:
    assert np.allclose(srgb_of(LINEAR_LEVELS), np.arange(256) / 255, atol=1e-12)
    assert LINEAR_LEVELS[128] == pytest.approx(0.2158605, abs=1e-6)
