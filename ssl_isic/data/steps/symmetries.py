"""Mirrors and quarter turns: exact, no pixel is interpolated."""

from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ssl_isic.data.steps.step import Image, Parameters, Step, whole_number
from ssl_isic.transfer import to_device


class HorizontalFlip(Step):
    """Left and right change places."""

    name: Literal["horizontal_flip"] = "horizontal_flip"
    p: float = 0.5
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return ()

    def apply(self, image: Image, parameters: Parameters) -> Image:
        flipped: Image = cv2.flip(image, 1)
        return flipped

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        return images.flip(3)


class VerticalFlip(Step):
    """Top and bottom change places."""

    name: Literal["vertical_flip"] = "vertical_flip"
    p: float = 0.5
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return ()

    def apply(self, image: Image, parameters: Parameters) -> Image:
        flipped: Image = cv2.flip(image, 0)
        return flipped

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        return images.flip(2)


class D4(Step):
    """One of the eight symmetries of the square, all equally likely: a lesion has no up and no left."""

    name: Literal["d4"] = "d4"
    drawn: ClassVar = ("symmetry",)
    before_enlarging: ClassVar = True

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (whole_number(rng, 8),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        transposed, upside_down, mirrored = _parts(int(parameters[0]))
        turned = cv2.transpose(image) if transposed else image
        if upside_down or mirrored:
            turned = cv2.flip(turned, -1 if upside_down and mirrored else int(mirrored))
        return turned

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Square images only: the others would not be of one size afterwards."""
        turned = torch.empty_like(images)
        symmetries = parameters[:, 0].to(torch.long)
        for symmetry in range(8):
            rows = to_device(torch.nonzero(symmetries == symmetry)[:, 0], images.device)
            transposed, upside_down, mirrored = _parts(symmetry)
            part = images[rows].transpose(2, 3) if transposed else images[rows]
            turned[rows] = part.flip([2] * upside_down + [3] * mirrored)
        return turned


def _parts(symmetry: int) -> tuple[bool, bool, bool]:
    """Whether it transposes, then turns upside down, then mirrors."""
    return bool(symmetry & 4), bool(symmetry & 2), bool(symmetry & 1)
