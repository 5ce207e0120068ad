"""Thin things drawn over an image: with edges between pixels, and thinner than one where they are."""

from math import ceil

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssl_isic.data.augmentations.colour import Image

Cover = NDArray[np.uint8]
"""How much of each pixel is covered (height, width), 255 is all of it."""
COARSEST, FINEST, LARGEST_PX = 2, 4, 640
FRACTION_BITS = 4


class Drawing:
    """An empty cover of `height` x `width` px, drawn at two to four times that and averaged down: so its edges are smooth."""

    def __init__(self, height: int, width: int) -> None:
        self._size = (width, height)
        self._finer = min(FINEST, max(COARSEST, LARGEST_PX // max(height, width)))
        self._fine = np.zeros((height * self._finer, width * self._finer), np.uint8)

    def line(self, points: NDArray[np.float64], width_px: float, cover: float) -> None:
        """Draw through `points` (N, 2), x and y in px of the image from its upper left corner; `cover` is 0..1.

        OpenCV draws odd widths only: what lies between two is drawn as the wider, and covers less.
        """
        fine_px = width_px * self._finer
        drawn_px = 2 * max(0, ceil((fine_px - 1) / 2)) + 1
        thickness = max(1, drawn_px - 1)  # OpenCV adds one to what is thicker than one
        value = round(255 * cover * fine_px / drawn_px)
        places = np.rint((points * self._finer - 0.5) * 2**FRACTION_BITS).astype(np.int32)
        cv2.polylines(self._fine, [places], False, value, thickness, cv2.LINE_8, FRACTION_BITS)

    def text(self, words: str, left_px: float, bottom_px: float, height_px: float, cover: float) -> None:
        """Write `words` upright, `height_px` high, from the lower left corner named."""
        place = (round(left_px * self._finer), round(bottom_px * self._finer))
        scale = height_px * self._finer / TEXT_HEIGHT
        thick = max(1, round(scale * 1.6))
        cv2.putText(self._fine, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, round(255 * cover), thick, cv2.LINE_AA)

    def cover(self) -> Cover:
        """What was drawn, at the image's size."""
        averaged: Cover = cv2.resize(self._fine, self._size, interpolation=cv2.INTER_AREA)
        return averaged


TEXT_HEIGHT = 22
"""Of a digit at scale 1 of OpenCV's font, px."""


def painted(image: Image, cover: Cover, colour: ArrayLike) -> Image:
    """The image with `colour`, sRGB 0..255 (3,), where it is covered, mixed with what is there where that is in part."""
    over, share = np.empty_like(image), cover.astype(np.float32)
    over[:] = np.rint(np.asarray(colour))
    share /= 255
    mixed: Image = cv2.blendLinear(image, over, 1 - share, share)
    return mixed
