"""The views: what augmentation makes of one lesion. Shapes: images are uint8 RGB (height, width, 3).

A view is a list of steps (`ssl_isic/data/steps/`), as a preset lists them (`ssl_isic/data/presets/`, or a file of the user's
own). `lesion`, the default, is for crops of 61 to 239 px in which colour is signal; `paper` is what the paper of the method
does to ImageNet photographs. docs/views.md describes all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from torch import Tensor

from ssl_isic.config import Config, Side
from ssl_isic.data.device_views import drawn_for, finished, split
from ssl_isic.data.steps import AnyStep
from ssl_isic.data.steps.crop import RandomResizedCrop, Sizing, resized
from ssl_isic.data.steps.step import Image, Shares, Step
from ssl_isic.data.view_presets import Kind, views_of
from ssl_isic.errors import InputError

MOST_SEEDS = 4


class ViewsConfig(Config):
    """Augmented views of one image."""

    preset: str = "lesion"
    """`lesion` keeps colour and the whole lesion; `paper` is the method's paper's (VICReg takes SimCLR's, LeJEPA DINO's);
    another name, or a FILE.yaml of steps."""
    size: Side = 96
    """Side of a global view, px."""
    local_size: Side = 48
    """Side of a local crop, px (multi-crop methods)."""
    global_scale: Shares | None = None
    """Area of a global crop as a share of the image; null takes the preset's."""
    local_scale: Shares | None = None
    """Area of a local crop as a share of the image; null takes the preset's."""
    on_device: bool = False
    """Workers crop and resize; colour and blur are done on the device, in batches. The same views, but for rounding."""


class TrainViewConfig(Config):
    """The augmented view of supervised training."""

    preset: str = "finetune"
    """A preset by its name, or a FILE.yaml of steps."""
    scale: Shares | None = None
    """Area of the crop as a share of the image; null takes the preset's."""
    on_device: bool = False
    """Workers crop and resize; the steps that can be are done on the device, in batches."""


@dataclass(frozen=True)
class CropScales:
    """Area of a crop as a share of the image, (smallest, largest); None where the views have no crop, or different ones."""

    whole: tuple[float, float] | None
    local: tuple[float, float] | None


@dataclass(frozen=True)
class View:
    """Steps that make one view of an image."""

    steps: tuple[Step, ...]

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """The view that the state of `rng` stands for; `image` is not written to.

        An enlargement is put off until a step comes that needs it: colours are changed on the px that there are.
        """
        height, width, _ = image.shape
        put_off: int | None = None
        for step in self.steps:
            parameters = step.sampled(rng, height, width)
            if parameters is None:
                continue
            if put_off is not None and not step.before_enlarging:
                image, put_off = resized(image, put_off), None
            if isinstance(step, Sizing):
                image, put_off = step.box(image, parameters), step.side
                height = width = step.side
                if max(image.shape) > put_off:
                    image, put_off = resized(image, put_off), None
            else:
                image = step.apply(image, parameters)
                if put_off is None:
                    height, width, _ = image.shape
        return image if put_off is None else resized(image, put_off)


class SeededViews:
    """Several random views of one image, as a function of the image and a seed.

    The same seed gives the same views in any worker, on any rank, in any order: that is what makes a resumed run exact. The
    random numbers are Philox's (Salmon et al. 2011), a function of key and counter: a seed is set and not stretched, in a
    quarter of the time that seeding another generator takes.
    """

    def __init__(self, views: Sequence[View], on_device: bool = False) -> None:
        self.views, self.on_device = list(views), on_device
        self._split = [split(view.steps) for view in self.views]
        self._rng = np.random.Generator(np.random.Philox(key=0))

    def __len__(self) -> int:
        return len(self.views)

    def __call__(self, image: Image, seed: Sequence[int], other: Image | None = None) -> list[Image]:
        """One view by each list of steps, in order; `seed` is up to four integers from 0 to 2^64 - 1.

        With `other`, another photograph of the same lesion, the second view and every other one after it show that.
        """
        self._set_seed(seed)
        shown = (image, image if other is None else other)
        return [view(shown[number % 2], self._rng) for number, view in enumerate(self.views)]

    def begun(self, image: Image, seed: Sequence[int], other: Image | None = None) -> tuple[list[Image], list[float]]:
        """What a worker makes of the views of `__call__` when they are finished on the device: pixels, and what was drawn."""
        self._set_seed(seed)
        shown = (image, image if other is None else other)
        pixels, drawn = list[Image](), list[float]()
        for number, (first, left) in enumerate(self._split):
            pixels.append(View(first)(shown[number % 2], self._rng))
            height, width, _ = pixels[-1].shape
            drawn += drawn_for(left, self._rng, height, width)
        return pixels, drawn

    def finished(self, pixels: Sequence[Tensor], drawn_B_D: Tensor) -> list[Tensor]:
        """The views of a batch of what `begun` made: uint8 (B, h, w, 3) each, on the device of `pixels`."""
        return finished(pixels, [left for _, left in self._split], drawn_B_D)

    def _set_seed(self, seed: Sequence[int]) -> None:
        words = [*seed, *[0] * (MOST_SEEDS - len(seed))]
        if len(words) > MOST_SEEDS:
            raise ValueError(f"a seed is {MOST_SEEDS} integers at most, got {len(words)}")
        self._rng.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {"key": np.array(words[:2], np.uint64), "counter": np.array([0, 0, *words[2:]], np.uint64)},
            "buffer": _NOTHING,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }


_NOTHING = np.zeros(4, np.uint64)


def eval_view(size: int) -> Callable[[Image], Image]:
    """The whole image at `size` x `size` px, nothing random: an area average where it shrinks, else bilinear."""
    return partial(_whole, size=size)


def _whole(image: Image, size: int) -> Image:
    height, width = image.shape[:2]
    if min(height, width) < size < max(height, width):  # OpenCV would not average along either side
        image = cv2.resize(image, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    shrinks = max(image.shape[:2]) > size
    shown: Image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return shown


def train_view(config: TrainViewConfig, size: int) -> SeededViews:
    """The one view of supervised training at `size` x `size` px."""
    return SeededViews([_view(views_of(config.preset, "finetune").first, size, config.scale)], config.on_device)


def simclr_views(config: ViewsConfig) -> SeededViews:
    """SimCLR's two views. Source of `paper`: Chen et al. 2020, appendix A."""
    return SeededViews(_global_views(config, "simclr"), config.on_device)


def dino_views(config: ViewsConfig, local_crops: int) -> SeededViews:
    """DINO's two global views, then `local_crops` local ones. Source of `paper`: Caron et al. 2021, official code."""
    return SeededViews(_global_views(config, "dino") + _local_views(config, "dino", local_crops), config.on_device)


def dinov2_views(config: ViewsConfig, local_crops: int) -> SeededViews:
    """As DINO's, with other scales of crops. Source of `paper`: Oquab et al. 2023, official configuration."""
    return SeededViews(_global_views(config, "dinov2") + _local_views(config, "dinov2", local_crops), config.on_device)


def mae_view(config: ViewsConfig) -> SeededViews:
    """MAE's one view. Source of `paper`: He et al. 2022, appendix A.1."""
    return SeededViews(_global_views(config, "mae")[:1], config.on_device)


def crop_scales(preset: str, kind: Kind) -> CropScales:
    """The scales of the crops of `kind` in a preset."""
    views = views_of(preset, kind)
    first, second = _scale_of(views.first), _scale_of(views.second or views.first)
    return CropScales(first if first == second else None, _scale_of(views.local or []))


def _global_views(config: ViewsConfig, kind: Kind) -> list[View]:
    views = views_of(config.preset, kind)
    return [_view(steps, config.size, config.global_scale) for steps in (views.first, views.second or views.first)]


def _local_views(config: ViewsConfig, kind: Kind, count: int) -> list[View]:
    steps = views_of(config.preset, kind).local
    if steps is None and count:
        raise InputError(
            f"views.preset={config.preset} has no local crops for {kind}: add local, or set local_crops to 0"
        )
    return [_view(steps or [], config.local_size, config.local_scale) for _ in range(count)]


def _view(steps: Sequence[AnyStep], size: int, scale: tuple[float, float] | None) -> View:
    """The view that `steps` make at `size` px, its crops of `scale` where that is given."""
    return View(tuple(_fitted(step, size, scale) for step in steps))


def _fitted(step: AnyStep, size: int, scale: tuple[float, float] | None) -> Step:
    if isinstance(step, RandomResizedCrop) and scale is not None:
        step = step.model_copy(update={"scale": scale})
    if isinstance(step, Sizing) and step.size is None:
        step = step.model_copy(update={"size": size})
    return step


def _scale_of(steps: Sequence[AnyStep]) -> tuple[float, float] | None:
    return next((step.scale for step in steps if isinstance(step, RandomResizedCrop)), None)
