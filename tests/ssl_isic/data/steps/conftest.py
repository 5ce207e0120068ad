"""An image with edges, every colour, black and white, and the step of a test on the device's side."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_isic.data.steps.step import OnDevice, Parameters

Image = NDArray[np.uint8]
OnBatch = Callable[[OnDevice, list[Image], list[Parameters]], list[Image]]


def coloured(height: int, width: int, seed: int = 0) -> Image:
    """Smooth random colours, stretched to 0..255, with a black and a white square."""
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(rng.uniform(0, 1, (7, 9, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    image[:5, :5], image[-6:, -4:] = 0, 255
    return image


@pytest.fixture(scope="session")
def image() -> Image:
    """64 x 64 px."""
    return coloured(64, 64)


@pytest.fixture(scope="session")
def wide_image() -> Image:
    """50 x 91 px."""
    return coloured(50, 91)


@pytest.fixture(scope="session")
def on_batch() -> OnBatch:
    """`apply_batch` on uint8 images, and uint8 out."""

    def run(step: OnDevice, images: list[Image], parameters: list[Parameters]) -> list[Image]:
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        drawn = torch.tensor(parameters, dtype=torch.float64).reshape(len(images), len(step.drawn))
        before = batch.clone()
        made = step.apply_batch(batch, drawn)
        assert torch.equal(batch, before), "the input was written to"
        return list(made.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).numpy())

    return run
