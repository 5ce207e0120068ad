"""Colour jitter against torchvision's functions on float pixels, part by part and as a whole."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import stats
from torchvision.transforms.v2 import functional as F

from ssl_isic.data.steps.jitter import ORDERS, ColourJitter, brightened, contrasted, hue_turned, saturated

Image = NDArray[np.uint8]
THEIRS = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
STRONG = ColourJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


def torchvisions(image: Image, amounts: list[tuple[int, float]]) -> NDArray[np.float64]:
    """The parts by number and amount, in order, on pixels that are not rounded in between."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    for part, amount in amounts:
        pixels = THEIRS[part](pixels, amount)
    return (pixels * 255).permute(1, 2, 0).numpy().astype(np.float64)


def distances(ours: Image, theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and greatest difference, steps of 8 bits."""
    difference = np.abs(ours.astype(np.float64) - theirs)
    return float(difference.mean()), float(difference.max())


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.7, 1.0, 1.3, 1.8])
def test_brightness_contrast_and_saturation_are_torchvisions(image: Image, factor: float) -> None:
    for part, ours in enumerate((brightened, contrasted, saturated)):
        assert distances(ours(image, factor), torchvisions(image, [(part, factor)]))[1] <= 1.01, ours.__name__


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.02, 0.0, 0.013, 0.1, 0.3])
def test_hue_is_torchvisions(image: Image, turns: float) -> None:
    """Hue and saturation have 8 bits in between; so they have in Pillow, by which the papers' views were made."""
    expected = torchvisions(image, [(3, turns)])
    mean, greatest = distances(hue_turned(image, turns), expected)
    pillows, _ = distances(np.asarray(F.adjust_hue(Pillow.fromarray(image), turns)), expected)
    assert mean < max(1.25 * pillows, 0.01)
    assert mean < 0.7
    assert greatest <= 9


def test_no_part_writes_to_its_image(image: Image) -> None:
    before = image.copy()
    for order in range(len(ORDERS)):
        STRONG.apply(image, (1.2, 0.7, 1.3, 0.1, order))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("order", [0, 5, 10, 17, 23])
def test_the_parts_come_in_the_order_that_is_drawn(image: Image, order: int) -> None:
    amounts = (1.5, 0.6, 1.4, 26 / 256)
    expected = torchvisions(image, [(part, amounts[part]) for part in ORDERS[order]])
    mean, _ = distances(STRONG.apply(image, (*amounts, order)), expected)
    others = [torchvisions(image, [(part, amounts[part]) for part in ORDERS[other]]) for other in (1, 7, 14, 20)]
    assert mean < 1
    assert max(np.abs(other - expected).mean() for other in others) > 5 * mean


def test_amounts_are_uniform_and_all_orders_alike() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([STRONG.draw(rng, 8, 8) for _ in range(4800)])
    for column, (low, high) in enumerate([(0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2)]):
        assert stats.kstest(drawn[:, column], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    counts = np.bincount(drawn[:, 4].astype(int), minlength=24)
    assert counts.shape == (24,)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert np.all(np.array([ColourJitter(brightness=1.5).draw(rng, 8, 8)[0] for _ in range(200)]) >= 0)


def test_the_batch_is_the_same_as_image_by_image(image: Image, wide_image: Image, on_batch: Any) -> None:
    rng = np.random.default_rng(1)
    images = [image if k % 2 else np.ascontiguousarray(image[::-1, :, ::-1]) for k in range(48)]
    drawn = [(*STRONG.draw(rng, 64, 64)[:4], float(k % 24)) for k in range(48)]
    for made, one, parameters in zip(on_batch(STRONG, images, drawn), images, drawn, strict=True):
        mean, greatest = distances(STRONG.apply(one, parameters), made.astype(np.float64))
        assert mean < 1.5
        assert greatest <= 16  # an 8-bit hue is spread by what follows: contrast and saturation of up to 1.8
