"""Rotation by any angle and zoom; what lies beyond the border is the image mirrored."""

from math import exp, log
from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from ssl_isic.data.steps.step import Image, Limits, Parameters, Step, uniform


class Rotate(Step):
    """The image turned about its middle by a random angle."""

    name: Literal["rotate"] = "rotate"
    degrees: float = Field(180.0, ge=0, le=180)
    """The angle is between -degrees and degrees."""
    drawn: ClassVar = ("degrees",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (uniform(rng, (-self.degrees, self.degrees)),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return _warped(image, parameters[0], 1.0)


class Zoom(Step):
    """The image grown or shrunk about its middle; its size stays."""

    name: Literal["zoom"] = "zoom"
    factor: Limits = (0.8, 1.25)
    """How much it grows, [smallest, largest]; the logarithm is uniform."""
    drawn: ClassVar = ("factor",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (exp(uniform(rng, (log(self.factor[0]), log(self.factor[1])))),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return _warped(image, 0.0, parameters[0])


def _warped(image: Image, degrees: float, zoom: float) -> Image:
    height, width, _ = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    warped: Image = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return warped
