"""The blur is a Gaussian: against scipy's, and against albumentations' that the presets had before."""

from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ssl_isic.data.steps.blur import GaussianBlur

Image = NDArray[np.uint8]
SIGMAS = [0.1, 0.28, 0.3, 0.7, 1.0, 1.9, 2.0]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_blur_is_scipys(wide_image: Image, sigma: float) -> None:
    radius = int(3.5 * sigma)
    expected = ndimage.gaussian_filter(
        wide_image.astype(float), (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0)
    )
    assert np.abs(GaussianBlur().apply(wide_image, (sigma,)) - expected).max() <= 0.51


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_blur_is_albumentations(wide_image: Image, sigma: float) -> None:
    theirs = A.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1.0)(image=wide_image)["image"]
    assert np.abs(GaussianBlur().apply(wide_image, (sigma,)).astype(int) - theirs).max() <= 1


def test_the_batch_is_the_same_as_image_by_image(wide_image: Image, on_batch: Any) -> None:
    drawn = [(sigma,) for sigma in SIGMAS]
    for made, (sigma,) in zip(on_batch(GaussianBlur(), [wide_image] * len(SIGMAS), drawn), drawn, strict=True):
        assert np.abs(GaussianBlur().apply(wide_image, (sigma,)).astype(int) - made).max() <= 1
    tiny = np.ascontiguousarray(wide_image[:4, :4])  # smaller than the kernel
    made = on_batch(GaussianBlur(), [tiny], [(2.0,)])[0]
    assert np.abs(GaussianBlur().apply(tiny, (2.0,)).astype(int) - made).max() <= 1


def test_sigma_is_drawn_within_its_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([GaussianBlur(sigma=(0.1, 2.0)).draw(rng, 8, 8)[0] for _ in range(2000)])
    assert 0.1 <= drawn.min() < 0.11
    assert 1.99 < drawn.max() <= 2.0
    with pytest.raises(ValueError, match=r"write \[smallest, largest\]"):
        GaussianBlur(sigma=(2.0, 0.1))
