"""Changes of tone, each px by itself: grey, solarisation, gamma."""

from functools import lru_cache
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssl_isic.data.steps.jitter import grey_of
from ssl_isic.data.steps.step import Image, Limits, Parameters, Step, uniform
from ssl_isic.transfer import to_device


class Grey(Step):
    """The image without colour, in three channels (ITU-R BT.601)."""

    name: Literal["grey"] = "grey"
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return ()

    def apply(self, image: Image, parameters: Parameters) -> Image:
        grey: Image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return grey

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        return grey_of(images).expand_as(images)


class Solarize(Step):
    """What is bright is inverted. Source: Grill et al. 2020 (BYOL), table 6."""

    name: Literal["solarize"] = "solarize"
    threshold: float = Field(0.5, ge=0, le=1)
    """From this share of white on a value is inverted."""

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return ()

    def apply(self, image: Image, parameters: Parameters) -> Image:
        solarized: Image = cv2.LUT(image, _solarized_values(self.threshold))
        return solarized

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        return torch.where(images.round() >= 255 * self.threshold, 255 - images, images)


class Gamma(Step):
    """Values raised to a power: above 1 darkens, below 1 lightens, black and white stay."""

    name: Literal["gamma"] = "gamma"
    power: Limits = (0.8, 1.25)
    """The power, [smallest, largest]; its logarithm is uniform."""
    drawn: ClassVar = ("power",)
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        low, high = np.log(self.power)
        return (float(np.exp(uniform(rng, (low, high)))),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        values = np.rint(255 * _SHARES ** parameters[0]).astype(np.uint8)
        changed: Image = cv2.LUT(image, values)
        return changed

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        power_B111 = to_device(parameters[:, 0, None, None, None].to(images.dtype), images.device)
        return 255 * (images / 255) ** power_B111


_SHARES = np.arange(256) / 255


@lru_cache
def _solarized_values(threshold: float) -> NDArray[np.uint8]:
    values = np.arange(256)
    return np.where(values >= 255 * threshold, 255 - values, values).astype(np.uint8)
