"""Colour jitter: brightness, contrast, saturation and hue, in torchvision's meaning of them.

Source: Howard 2013 and Szegedy et al. 2015, in the form of torchvision's ColorJitter, which SimCLR and DINO are trained with.
"""

from collections.abc import Callable
from itertools import permutations
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssl_isic.data.steps.step import Image, Parameters, Step, uniform, whole_number
from ssl_isic.transfer import to_device

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R BT.601)."""
ORDERS = list(permutations(range(4)))
TURN = 256
"""Steps of 8-bit hue in a full turn."""


class ColourJitter(Step):
    """Brightness, contrast, saturation and hue, each changed by a random amount, in random order."""

    name: Literal["colour_jitter"] = "colour_jitter"
    brightness: float = Field(0.0, ge=0)
    """The image is multiplied by 1 - brightness to 1 + brightness, 0 at least."""
    contrast: float = Field(0.0, ge=0)
    """The distance to the image's mean grey is multiplied by 1 - contrast to 1 + contrast, 0 at least."""
    saturation: float = Field(0.0, ge=0)
    """The distance of each px to its own grey is multiplied by 1 - saturation to 1 + saturation, 0 at least."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """The hue moves by -hue to hue, in turns of the colour circle."""
    drawn: ClassVar = ("brightness", "contrast", "saturation", "hue", "order")
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (
            uniform(rng, (max(0.0, 1 - self.brightness), 1 + self.brightness)),
            uniform(rng, (max(0.0, 1 - self.contrast), 1 + self.contrast)),
            uniform(rng, (max(0.0, 1 - self.saturation), 1 + self.saturation)),
            uniform(rng, (-self.hue, self.hue)),
            whole_number(rng, len(ORDERS)),
        )

    def apply(self, image: Image, parameters: Parameters) -> Image:
        for part in ORDERS[int(parameters[4])]:
            image = PARTS[part](image, parameters[part])
        return image

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        images, orders = images.clone(), torch.tensor(ORDERS)[parameters[:, 4].long()]
        for turn in range(4):
            for part in range(4):
                rows = torch.nonzero(orders[:, turn] == part)[:, 0]
                amount_B111 = to_device(parameters[rows, part, None, None, None].to(images.dtype), images.device)
                rows = to_device(rows, images.device)
                images[rows] = BATCH_PARTS[part](images[rows], amount_B111)
        return images


def brightened(image: Image, factor: float) -> Image:
    """`image` times `factor`, which is 0 or more."""
    if factor == 1:
        return image
    changed: Image = cv2.convertScaleAbs(image, alpha=factor)
    return changed


def contrasted(image: Image, factor: float) -> Image:
    """Each px at `factor` times its distance from the mean grey of the image."""
    if factor == 1:
        return image
    red, green, blue, _ = cv2.mean(image)
    grey = GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue
    changed: Image = cv2.addWeighted(image, factor, image, 0.0, (1 - factor) * grey)
    return changed


def saturated(image: Image, factor: float) -> Image:
    """Each px at `factor` times its distance from its own grey."""
    if factor == 1:
        return image
    changed: Image = cv2.transform(image, factor * _IDENTITY + (1 - factor) * _GREY)
    return changed


def hue_turned(image: Image, turns: float) -> Image:
    """The hue of HSV moved by `turns` of the colour circle, in steps of 1/256."""
    steps = round(turns * TURN) % TURN
    if steps == 0:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    rows = hsv.reshape(len(hsv), -1)
    step_of_row = np.zeros(rows.shape[1], np.uint8)  # for whole rows at once, as fast again as hsv[..., 0] += steps
    step_of_row[::3] = steps
    np.add(rows, step_of_row, out=rows)  # wraps around, as hue does
    changed: Image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=hsv)
    return changed


_IDENTITY = np.eye(3, dtype=np.float32)
_GREY = np.tile(np.array(GREY_WEIGHTS, np.float32), (3, 1))
PARTS: list[Callable[[Image, float], Image]] = [brightened, contrasted, saturated, hue_turned]


def grey_of(images: Tensor) -> Tensor:
    """The grey (B, 1, H, W) of `images` (B, 3, H, W)."""
    weights = to_device(torch.tensor(GREY_WEIGHTS, dtype=images.dtype), images.device)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def _brightened_batch(images: Tensor, factor_B111: Tensor) -> Tensor:
    return (images * factor_B111).clamp(0, 255)


def _contrasted_batch(images: Tensor, factor_B111: Tensor) -> Tensor:
    mean_B111 = grey_of(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean_B111.expand_as(images), images, factor_B111).clamp(0, 255)


def _saturated_batch(images: Tensor, factor_B111: Tensor) -> Tensor:
    return torch.lerp(grey_of(images).expand_as(images), images, factor_B111).clamp(0, 255)


def _hue_turned_batch(images: Tensor, turns_B111: Tensor) -> Tensor:
    """In HSV each channel is V - C x trapezium(n + H), with n = 5, 3, 1 for red, green, blue and H in sixths of a turn."""
    red, green, blue = images.unbind(1)
    largest, which = images.max(dim=1)
    chroma = largest - images.amin(dim=1)
    sixths = torch.stack([green - blue, blue - red, red - green], 1).gather(1, which[:, None])[:, 0]
    sixths = sixths / chroma.clamp(min=1e-6) + 2 * which + 6 * torch.round(turns_B111[:, 0] * TURN) / TURN
    first = to_device(torch.tensor([5.0, 3.0, 1.0], dtype=images.dtype), images.device)
    phase = (first[:, None, None] + sixths[:, None]) % 6
    return largest[:, None] - chroma[:, None] * torch.minimum(phase, 4 - phase).clamp(0, 1)


BATCH_PARTS: list[Callable[[Tensor, Tensor], Tensor]] = [
    _brightened_batch,
    _contrasted_batch,
    _saturated_batch,
    _hue_turned_batch,
]
