"""Coarse dropout: boxes of the image that are painted over."""

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from ssl_isic.data.steps.step import Image, Parameters, Shares, Step, sub_seed, uniform, whole_number


class CoarseDropout(Step):
    """Boxes painted in the image's mean colour. Source: DeVries and Taylor 2017 (Cutout)."""

    name: Literal["coarse_dropout"] = "coarse_dropout"
    most_boxes: int = Field(4, ge=1)
    """Boxes are 1 to this many."""
    side: Shares = (0.1, 0.25)
    """Sides of a box as a share of the image's, [smallest, largest]."""
    p: float = Field(0.5, ge=0, le=1)
    drawn: ClassVar = ("boxes", "sub_seed")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return 1 + whole_number(rng, self.most_boxes), sub_seed(rng)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        boxes, seed = (int(number) for number in parameters)
        rng = np.random.default_rng(seed)
        height, width, _ = image.shape
        painted, colour = image.copy(), np.rint(cv2.mean(image)[:3]).astype(np.uint8)
        for _ in range(boxes):
            box_height, box_width = (max(1, round(side * uniform(rng, self.side))) for side in (height, width))
            top, left = whole_number(rng, height - box_height + 1), whole_number(rng, width - box_width + 1)
            painted[top : top + box_height, left : left + box_width] = colour
        return painted
