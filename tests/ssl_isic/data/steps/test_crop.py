"""Crops are drawn as torchvision draws them, and a view is neither aliased nor blurred by its resizing."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import v2

from ssl_isic.data.steps.crop import RandomResizedCrop, Resize, resized

Image = NDArray[np.uint8]
SHAPES = [(131, 131), (90, 200), (60, 450)]


def drawn(step: RandomResizedCrop, shape: tuple[int, int], count: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return np.array([step.draw(rng, *shape) for _ in range(count)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.4, 0.9)])
def test_boxes_are_distributed_as_torchvisions(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    ours = drawn(RandomResizedCrop(scale=scale), shape, 2500)
    torch.manual_seed(0)
    theirs_of = v2.RandomResizedCrop(16, scale=scale)
    blank = torch.empty(3, *shape)
    boxes = (theirs_of.make_params([blank]) for _ in range(2500))
    theirs = np.array([[box["top"], box["left"], box["height"], box["width"]] for box in boxes])
    for name, a, b in (
        ("area", ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
        ("ratio", ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
        ("top", ours[:, 0], theirs[:, 0]),
        ("left", ours[:, 1], theirs[:, 1]),
    ):
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (2, 300)])
def test_a_box_lies_in_the_image(shape: tuple[int, int]) -> None:
    top, left, height, width = drawn(RandomResizedCrop(scale=(0.05, 1.0)), shape, 300).T
    assert np.all((height >= 1) & (width >= 1) & (top >= 0) & (left >= 0))
    assert np.all((top + height <= shape[0]) & (left + width <= shape[1]))


def test_the_box_is_what_is_resized(wide_image: Image) -> None:
    made = RandomResizedCrop(size=40).apply(wide_image, (7, 20, 30, 25))
    np.testing.assert_array_equal(made, cv2.resize(wide_image[7:37, 20:45], (40, 40)))
    np.testing.assert_array_equal(Resize(size=12).apply(wide_image, ()), resized(wide_image, 12))


def gradient_energy(image: Image) -> float:
    return float(np.square(np.diff(image.astype(float), axis=0)).mean())


def textured(size: int) -> Image:
    """Noise of all scales, as skin has."""
    rng = np.random.default_rng(1)
    layers = (
        cv2.resize(rng.normal(0, 1, (n, n, 3)), (size, size), interpolation=cv2.INTER_CUBIC) * 120 / n**0.7
        for n in (4, 8, 16, 32, 64, size)
    )
    return np.clip(150 + sum(layers), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [124, 110, 100, 90, 80, 70, 64, 56, 48])
def test_a_view_that_shrinks_is_as_sharp_as_an_area_average(size: int) -> None:
    image = textured(131)
    ours, area = resized(image, size), cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    aliased = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    assert gradient_energy(ours) / gradient_energy(area) == pytest.approx(1, abs=0.1)
    assert np.abs(ours.astype(float) - area).mean() < 1.5
    assert np.abs(ours.astype(float).mean() - image.mean()) < 0.3
    if size < 100:
        assert gradient_energy(aliased) / gradient_energy(area) > 1.1


def test_what_grows_is_bilinear_and_what_shrinks_much_is_an_area_average(wide_image: Image) -> None:
    np.testing.assert_array_equal(resized(wide_image, 100), cv2.resize(wide_image, (100, 100)))
    area = cv2.resize(wide_image, (16, 16), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resized(wide_image, 16), area)


@pytest.mark.parametrize(
    "settings", [{"scale": [0.5, 0.2]}, {"scale": [0.5, 1.2]}, {"scale": [0, 1]}, {"ratio": [0, 1]}]
)
def test_limits_that_make_no_sense_are_refused(settings: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match=r"write \[smallest, largest\]"):
        RandomResizedCrop.model_validate(settings)
