"""What gives a view its size: a random crop, or the whole image, resized."""

from abc import abstractmethod
from math import exp, log, sqrt
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.data.steps.step import Image, Limits, Parameters, Shares, Step, uniform, whole_number

TRIES = 10
SMALLEST_FILTERED, LARGEST_FILTERED = 1.1, 3.0
"""Source px for one px between which a filter before bilinear interpolation stands for an area average."""


class Sizing(Step):
    """A step that gives the view its size: a box of the image, resized."""

    size: int | None = Field(None, ge=1)
    """Side of the result, px; null takes the view's."""
    p: Literal[1] = 1

    @abstractmethod
    def box(self, image: Image, parameters: Parameters) -> Image:
        """The part of `image` that is resized; no copy."""

    @property
    def side(self) -> int:
        """Side of the result, px."""
        if self.size is None:
            raise ValueError("a crop without a size: build views by ssl_isic.data.views, which gives it the view's")
        return self.size

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return resized(self.box(image, parameters), self.side)


class RandomResizedCrop(Sizing):
    """A box of random area, shape and place, resized to the size of the view. Source: Szegedy et al. 2015, as torchvision."""

    name: Literal["random_resized_crop"] = "random_resized_crop"
    scale: Shares = (0.08, 1.0)
    """Area of the box as a share of the image."""
    ratio: Limits = (3 / 4, 4 / 3)
    """Width of the box for its height."""
    drawn: ClassVar = ("top", "left", "height", "width")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        area, (low, high) = height * width, self.ratio
        for _ in range(TRIES):
            box_area = area * uniform(rng, self.scale)
            ratio = exp(uniform(rng, (log(low), log(high))))
            box_width, box_height = round(sqrt(box_area * ratio)), round(sqrt(box_area / ratio))
            if 0 < box_width <= width and 0 < box_height <= height:
                top = whole_number(rng, height - box_height + 1)
                left = whole_number(rng, width - box_width + 1)
                return top, left, box_height, box_width
        box_width = min(width, max(1, round(height * high)))  # the largest box in the middle that has an allowed shape
        box_height = min(height, max(1, round(width / low)))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width

    def box(self, image: Image, parameters: Parameters) -> Image:
        top, left, height, width = (int(number) for number in parameters)
        return image[top : top + height, left : left + width]


class Resize(Sizing):
    """The whole image resized to the size of the view; its shape is not kept."""

    name: Literal["resize"] = "resize"

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return ()

    def box(self, image: Image, parameters: Parameters) -> Image:
        return image


def resized(image: Image, size: int) -> Image:
    """`image` at `size` x `size` px: bilinear where it grows, and without aliasing where it shrinks.

    An area average over f source px blurs by a variance of (f^2 + 1) / 12, averaged over the places that its window can
    take; bilinear interpolation by 1/6, and a filter [a, 1 - 2a, a] before it by 2a. With a = (f^2 - 1) / 24 the two blur
    alike, and the second is three times as fast in OpenCV. At f = 3 the filter is the mean of three px; a view that shrinks
    more along either side is an area average.
    """
    height, width, _ = image.shape
    down_y, down_x = height / size, width / size
    largest = max(down_y, down_x)
    if largest > LARGEST_FILTERED:
        averaged: Image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return averaged
    if largest > SMALLEST_FILTERED:
        image = cv2.sepFilter2D(image, -1, _before(down_x), _before(down_y), borderType=cv2.BORDER_REPLICATE)
    interpolated: Image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return interpolated


def _before(down: float) -> NDArray[np.float32]:
    side = max(down * down - 1, 0) / 24
    return np.array([side, 1 - 2 * side, side], np.float32)
