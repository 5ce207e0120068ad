"""The views of the papers' presets on real lesions are distributed as torchvision's and albumentations' are.

Of each view nine numbers are taken. Each has to have the same mean, image by image (a paired t-test), and the same spread.
"""

from collections.abc import Callable
from pathlib import Path

import albumentations as A
import cv2
import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import v2

from ssl_isic.data.images import decode_rgb
from ssl_isic.data.views import ViewsConfig, dino_views, simclr_views

Image = NDArray[np.uint8]
Make = Callable[[Image, int], Image]
SIZE, IMAGES, VIEWS = 64, 120, 4
NAMES = ["red", "green", "blue", "red SD", "green SD", "blue SD", "chroma", "asymmetry", "log sharpness"]


@pytest.fixture(scope="module")
def lesions(shared_data: Path) -> list[Image]:
    with h5py.File(shared_data / "isic2024-train-image.hdf5") as file:
        return [decode_rgb(bytes(file[name][()])) for name in list(file)[: IMAGES * 50 : 50]]


def numbers(view: Image) -> NDArray[np.float64]:
    pixels = view.astype(np.float64)
    left, right = pixels[:, : SIZE // 2].mean(), pixels[:, SIZE // 2 :].mean()
    sharpness = np.log(np.square(np.diff(pixels, axis=0)).mean() + 0.1)
    chroma = np.ptp(pixels, axis=2).mean()
    return np.array([*pixels.mean(axis=(0, 1)), *pixels.std(axis=(0, 1)), chroma, left - right, sharpness])


def statistics(make: Make, lesions: list[Image]) -> NDArray[np.float64]:
    """(IMAGES, VIEWS, numbers)."""
    return np.array([[numbers(make(image, n * VIEWS + k)) for k in range(VIEWS)] for n, image in enumerate(lesions)])


def torchvisions(
    jitter: tuple[float, float, float, float], scale: tuple[float, float], blur: float, solarize: float
) -> Make:
    # pixels stay floats, as ours are rounded only once a part; a kernel that holds 3.5 sigma, as ours does
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=scale, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(*jitter)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(15, (0.1, 2.0))], p=blur),
            v2.RandomSolarize(128 / 255, p=solarize),
        ]
    )

    def make(image: Image, seed: int) -> Image:
        torch.manual_seed(seed)
        made = transform(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
        return (made * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return make


def albumentations(
    jitter: tuple[float, float, float, float], scale: tuple[float, float], blur: float, solarize: float
) -> Make:
    """The Compose that the presets were before the views had an engine of their own."""
    brightness, contrast, saturation, hue = jitter
    transform = A.Compose(
        [
            A.RandomResizedCrop((SIZE, SIZE), scale=scale, interpolation=cv2.INTER_LINEAR, area_for_downscale="image"),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(
                (1 - brightness, 1 + brightness),
                (1 - contrast, 1 + contrast),
                (1 - saturation, 1 + saturation),
                (-hue, hue),
                p=0.8,
            ),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            A.Solarize(threshold_range=(0.5, 0.5), p=solarize),
        ],
        seed=0,
    )
    return lambda image, seed: transform(image=image)["image"]


SIMCLR = ((0.8, 0.8, 0.8, 0.2), (0.08, 1.0), 0.5, 0.0)
DINO_SECOND = ((0.4, 0.4, 0.2, 0.1), (0.4, 1.0), 0.1, 0.2)


@pytest.mark.parametrize("theirs", [torchvisions, albumentations])
@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_views_are_distributed_as_theirs(method: str, theirs: Callable[..., Make], lesions: list[Image]) -> None:
    config = ViewsConfig(preset="paper", size=SIZE)
    views, words = (simclr_views(config), SIMCLR) if method == "simclr" else (dino_views(config, 0), DINO_SECOND)
    ours = statistics(lambda image, seed: views(image, (0, seed))[1], lesions)
    others = statistics(theirs(*words), lesions)
    compared = NAMES[:-1] if theirs is torchvisions else NAMES  # whose crops shrink by a triangle of twice the width
    for number, name in enumerate(compared):
        a, b = ours[..., number], others[..., number]
        assert stats.ttest_rel(a.mean(axis=1), b.mean(axis=1)).pvalue > 1e-3, name
        assert stats.levene(a.ravel(), b.ravel()).pvalue > 1e-3, name
