"""The views: what augmentation makes of one lesion. Shapes: images are uint8 RGB (height, width, 3).

Two presets. `paper` is what the SimCLR and DINO papers do to ImageNet photographs. `lesion`, the default, is for crops of
61 to 239 px in which colour is signal: all eight symmetries of the square, crops that keep the lesion in view, and colour
changes as mild as a change of lamp.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer release

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Config

Image = NDArray[np.uint8]


class ViewsConfig(Config):
    """Augmented views of one image."""

    preset: Literal["lesion", "paper"] = "lesion"
    """`lesion` keeps colour and the whole lesion; `paper` is the preset of the SimCLR and DINO papers."""
    size: int = Field(96, ge=8)
    """Side of a global view, px."""
    local_size: int = Field(48, ge=8)
    """Side of a local crop, px (multi-crop methods)."""
    global_scale: tuple[float, float] | None = None
    """Area of a global crop as a share of the image; null takes the preset's."""
    local_scale: tuple[float, float] | None = None
    """Area of a local crop as a share of the image; null takes the preset's."""


@dataclass(frozen=True)
class CropScales:
    """Area of a crop as a share of the image, (smallest, largest)."""

    whole: tuple[float, float]
    local: tuple[float, float]


CROP_SCALES = {
    ("lesion", "simclr"): CropScales((0.4, 1.0), (0.2, 0.5)),
    ("lesion", "dino"): CropScales((0.5, 1.0), (0.2, 0.5)),
    ("lesion", "dinov2"): CropScales((0.5, 1.0), (0.2, 0.5)),
    ("lesion", "mae"): CropScales((0.4, 1.0), (0.2, 0.5)),
    ("paper", "simclr"): CropScales((0.08, 1.0), (0.05, 0.4)),  # SimCLR, appendix A
    ("paper", "dino"): CropScales((0.4, 1.0), (0.05, 0.4)),  # DINO, section 3.2
    ("paper", "dinov2"): CropScales((0.32, 1.0), (0.05, 0.32)),  # DINOv2, official configuration
    ("paper", "mae"): CropScales((0.2, 1.0), (0.05, 0.4)),  # MAE, appendix A.1; it has no local crops
}


class SeededViews:
    """Several random views of one image, as a function of the image and a seed.

    The same seed gives the same views in any worker, on any rank, in any order: that is what makes a resumed run exact.
    """

    def __init__(self, transforms: Sequence[A.Compose]) -> None:
        self._transforms = list(transforms)
        self._numpy_rng = np.random.default_rng(0)
        self._python_rng = random.Random(0)
        self._share_random_state()

    def __len__(self) -> int:
        return len(self._transforms)

    def __call__(self, image: Image, seed: Sequence[int], other: Image | None = None) -> list[Image]:
        """One view by each transform, in order; `seed` is any sequence of integers >= 0.

        With `other`, another photograph of the same lesion, the second view and every other one after it show that.
        """
        sequence = np.random.SeedSequence(list(seed))
        self._numpy_rng.bit_generator.state = np.random.PCG64(sequence).state
        self._python_rng.seed(int(sequence.generate_state(1, np.uint64)[0]))
        shown = (image, image if other is None else other)
        return [
            np.ascontiguousarray(transform(image=shown[number % 2])["image"])
            for number, transform in enumerate(self._transforms)
        ]

    def _share_random_state(self) -> None:
        for transform in self._transforms:
            transform.set_random_state(self._numpy_rng, self._python_rng)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share_random_state()  # pickling may split what was shared


def use_one_thread() -> None:
    """Keep OpenCV from starting threads of its own inside a data-loading worker."""
    cv2.setNumThreads(0)


def eval_view(size: int) -> A.Compose:
    """The whole image at `size` x `size` px, nothing random."""
    return A.Compose([A.Resize(size, size, interpolation=cv2.INTER_LINEAR, area_for_downscale="image")])


def train_view(size: int) -> A.Compose:
    """The view of supervised training: a mild crop, the symmetries of the square, mild light and colour."""
    return A.Compose([_crop(size, (0.6, 1.0)), A.D4(p=1.0), _lamp()])


def simclr_views(config: ViewsConfig) -> SeededViews:
    """SimCLR's two views. Source: Chen et al. 2020, appendix A (`paper`)."""
    scale = config.global_scale or CROP_SCALES[config.preset, "simclr"].whole
    view = _lesion_view if config.preset == "lesion" else _simclr_paper_view
    return SeededViews([view(config.size, scale) for _ in range(2)])


def dino_views(config: ViewsConfig, local_crops: int) -> SeededViews:
    """DINO's two global views, then `local_crops` local ones. Source: Caron et al. 2021, official code (`paper`)."""
    scales = CROP_SCALES[config.preset, "dino"]
    whole, local = config.global_scale or scales.whole, config.local_scale or scales.local
    if config.preset == "lesion":
        global_views = [_lesion_view(config.size, whole) for _ in range(2)]
        local_views = [_lesion_view(config.local_size, local) for _ in range(local_crops)]
    else:
        global_views = [
            _dino_paper_view(config.size, whole, blur=1.0, solarize=0.0),
            _dino_paper_view(config.size, whole, blur=0.1, solarize=0.2),
        ]
        local_views = [_dino_paper_view(config.local_size, local, blur=0.5, solarize=0.0) for _ in range(local_crops)]
    return SeededViews(global_views + local_views)


def dinov2_views(config: ViewsConfig, local_crops: int) -> SeededViews:
    """DINO's views with DINOv2's scales of crops. Source: Oquab et al. 2023, official configuration (`paper`)."""
    scales = CROP_SCALES[config.preset, "dinov2"]
    whole, local = config.global_scale or scales.whole, config.local_scale or scales.local
    return dino_views(config.model_copy(update={"global_scale": whole, "local_scale": local}), local_crops)


def mae_view(config: ViewsConfig) -> SeededViews:
    """MAE's one view: a crop and its mirrors, colours untouched. Source: He et al. 2022, appendix A.1 (`paper`)."""
    scale = config.global_scale or CROP_SCALES[config.preset, "mae"].whole
    mirror = A.D4(p=1.0) if config.preset == "lesion" else A.HorizontalFlip(p=0.5)
    return SeededViews([A.Compose([_crop(config.size, scale), mirror])])


def _lesion_view(size: int, scale: tuple[float, float]) -> A.Compose:
    return A.Compose(
        [_crop(size, scale), A.D4(p=1.0), _lamp(), A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 1.0), p=0.2)]
    )


def _simclr_paper_view(size: int, scale: tuple[float, float]) -> A.Compose:
    return A.Compose(
        [
            _crop(size, scale),
            A.HorizontalFlip(p=0.5),
            _jitter(0.8, 0.8, 0.8, 0.2),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=0.5),
        ]
    )


def _dino_paper_view(size: int, scale: tuple[float, float], blur: float, solarize: float) -> A.Compose:
    return A.Compose(
        [
            _crop(size, scale),
            A.HorizontalFlip(p=0.5),
            _jitter(0.4, 0.4, 0.2, 0.1),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            A.Solarize(threshold_range=(0.5, 0.5), p=solarize),
        ]
    )


def _crop(size: int, scale: tuple[float, float]) -> A.RandomResizedCrop:
    # without INTER_AREA a crop that shrinks is aliased, and training would see other textures than prediction does
    return A.RandomResizedCrop(
        (size, size), scale=scale, ratio=(3 / 4, 4 / 3), interpolation=cv2.INTER_LINEAR, area_for_downscale="image"
    )


def _lamp() -> A.ColorJitter:
    return _jitter(0.2, 0.2, 0.1, 0.02)


def _jitter(brightness: float, contrast: float, saturation: float, hue: float) -> A.ColorJitter:
    return A.ColorJitter(
        brightness=(1 - brightness, 1 + brightness),
        contrast=(1 - contrast, 1 + contrast),
        saturation=(1 - saturation, 1 + saturation),
        hue=(-hue, hue),
        p=0.8,
    )
