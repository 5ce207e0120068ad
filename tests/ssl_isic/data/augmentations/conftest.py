"""Lesions to augment: painted ones of known colours, and real ones where they are."""

from pathlib import Path

import numpy as np
import pytest

from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.steps.step import Image


@pytest.fixture
def lesion() -> Image:
    """A brown disc on light skin with a little noise, 120 x 150 px."""
    return painted_lesion(120, 150)


def painted_lesion(height: int, width: int) -> Image:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < min(height, width) / 5
    pixels = np.where(inside[..., None], [120, 75, 55], [215, 170, 150]) + rng.normal(0, 3, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def real_lesions(shared_data: Path) -> list[Image]:
    """Forty of ISIC-2024's crops, then forty of HAM10000's photographs."""
    images = []
    for name in ("isic2024-train-image.hdf5", "ham10000-image.hdf5"):
        pool = ImagePool({"images": shared_data / name})
        images += [decode_rgb(pool.read(index)) for index in range(0, len(pool), len(pool) // 40)][:40]
    return images
