"""Grey, solarisation and gamma against torchvision's."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F

from ssl_isic.data.steps.tone import Gamma, Grey, Solarize

Image = NDArray[np.uint8]


def as_tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def test_grey_is_torchvisions(image: Image, on_batch: Any) -> None:
    expected = F.rgb_to_grayscale(as_tensor(image).float(), 3).permute(1, 2, 0).numpy()
    made = Grey().apply(image, ())
    assert np.abs(made - expected).max() <= 0.55  # OpenCV's weights have 15 bits
    assert np.abs(on_batch(Grey(), [image], [()])[0].astype(int) - made).max() <= 1


def test_solarisation_is_torchvisions_at_128(image: Image, on_batch: Any) -> None:
    expected = F.solarize(as_tensor(image), 128).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(Solarize().apply(image, ()), expected)
    np.testing.assert_array_equal(on_batch(Solarize(), [image], [()])[0], expected)
    np.testing.assert_array_equal(Solarize(threshold=0).apply(image, ()), 255 - image)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_gamma_is_torchvisions(image: Image, power: float, on_batch: Any) -> None:
    expected = 255 * F.adjust_gamma(as_tensor(image).double() / 255, power).permute(1, 2, 0).numpy()
    made = Gamma().apply(image, (power,))
    assert np.abs(made - expected).max() <= 0.51
    np.testing.assert_array_equal(on_batch(Gamma(), [image], [(power,)])[0], made)


def test_the_power_is_drawn_within_its_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([Gamma(power=(0.5, 2.0)).draw(rng, 8, 8)[0] for _ in range(2000)])
    assert 0.5 <= drawn.min() < 0.51
    assert 1.96 < drawn.max() <= 2.0
    assert np.median(drawn) == pytest.approx(1, abs=0.05)
