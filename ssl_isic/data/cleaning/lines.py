"""Thin dark lines in an image, found by morphology with line segments in many directions."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning.pixels import Image

Plane = NDArray[np.uint8]

CLOSING_DIRECTIONS, OPENING_DIRECTIONS = 4, 32


def darkness(image: Image, width_px: int, around_px: int) -> Plane:
    """How much darker each pixel is than what lies beside it, in the channel where that is least, uint8 (h, w).

    What lies beside is the closing of the channel, the largest of those by segments of `width_px` in four directions: it
    fills whatever is narrower than that in some direction. It counts up to the median of `around_px` x `around_px` px, so
    that skin between two white hairs is not dark. A hair or a line of ink takes all colours away; a vessel or a pigment
    network leaves most of the red.
    """
    kernels = [segment(width_px, direction, CLOSING_DIRECTIONS) for direction in range(CLOSING_DIRECTIONS)]
    closed = np.maximum.reduce([cv2.morphologyEx(image, cv2.MORPH_CLOSE, kernel) for kernel in kernels])
    beside = np.minimum(closed, cv2.medianBlur(image, around_px))
    least: Plane = cv2.subtract(beside, image).min(axis=2)
    return least


def along_lines(plane: Plane, length_px: int) -> Plane:
    """What of a plane (h, w) is left where only segments of `length_px` px in some direction may stay, uint8 (h, w)."""
    openings = [
        cv2.morphologyEx(plane, cv2.MORPH_OPEN, segment(length_px, k, OPENING_DIRECTIONS))
        for k in range(OPENING_DIRECTIONS)
    ]
    lines: Plane = np.maximum.reduce(openings)
    return lines


@cache
def segment(length_px: int, direction: int, directions: int) -> Plane:
    """A centred straight segment of `length_px`, odd, at `direction` / `directions` of half a turn, as a kernel of 0 and 1."""
    angle = np.pi * direction / directions
    reach = (length_px - 1) / 2
    x, y = round(reach * np.cos(angle)), round(reach * np.sin(angle))
    kernel = np.zeros((2 * abs(y) + 1, 2 * abs(x) + 1), np.uint8)
    along = np.linspace(-1, 1, 2 * max(abs(x), abs(y)) + 1)
    kernel[np.rint(y * along).astype(int) + abs(y), np.rint(x * along).astype(int) + abs(x)] = 1
    return kernel
