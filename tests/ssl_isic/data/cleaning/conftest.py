"""Skin, a lesion and what lies over them, drawn where it is known."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Image = NDArray[np.uint8]
WithHairs = Callable[[Image, int], tuple[Image, NDArray[np.bool_]]]
SKIN_RGB, BROWN_RGB, HAIR_RGB = (np.array(rgb) for rgb in ((205, 165, 150), (110, 70, 55), (45, 32, 28)))
SHAPES = [(51, 51), (150, 200), (450, 600)]  # from an ISIC-2024 crop to a dermoscopic image


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[1]}x{shape[0]}")
def skin(request: pytest.FixtureRequest) -> Image:
    """Skin of one tone with a little noise."""
    noise = np.random.default_rng(request.param).normal(0, 2, (*request.param, 3))
    return np.clip(SKIN_RGB + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def lesion(skin: Image) -> Image:
    """A brown disc in the middle of the skin, a third of its shorter side wide and soft at its edge."""
    height, width = skin.shape[:2]
    radius = min(height, width) / 6
    y, x = np.mgrid[:height, :width]
    inside = 1 / (1 + np.exp((np.hypot(y - height / 2, x - width / 2) - radius) / (0.06 * radius)))
    return np.rint(skin + inside[..., None] * (BROWN_RGB - skin)).astype(np.uint8)


@pytest.fixture
def with_hairs() -> WithHairs:
    """Draws straight dark hairs, a hundredth of the image's side wide; says where pixels are half hair or more."""

    def draw(image: Image, hairs: int) -> tuple[Image, NDArray[np.bool_]]:
        rng, scale = np.random.default_rng(hairs), 8
        height, width = image.shape[:2]
        canvas = np.zeros((height * scale, width * scale), np.uint8)
        for _ in range(hairs):
            middle, angle = rng.uniform((0, 0), (width, height)), rng.uniform(0, np.pi)
            reach = 0.4 * max(height, width) * np.array([np.cos(angle), np.sin(angle)])
            start, end = np.rint(np.stack([middle - reach, middle + reach]) * scale).astype(int).tolist()
            cv2.line(canvas, start, end, 255, round(0.01 * np.sqrt(height * width) * scale))
        coverage = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255
        return np.rint(image + coverage * (HAIR_RGB - image)).astype(np.uint8), coverage[..., 0] >= 0.5

    return draw
