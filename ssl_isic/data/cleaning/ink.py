"""Marks of a surgeon's pen (gentian violet, blue), painted over."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.pixels import Image, Mask, filled, grown, odd, side_of, working_copy

BLUE, BLUER, FRINGE = -8, -25, -12
DARKER = 25
LEAST_AREA, MIDDLE, GROWN = 0.0005, 0.25, 0.02


def remove_ink(image: Image) -> Image:
    """The image without violet and blue ink beside its middle, painted over from around it; itself where there is none.

    Ink is where Lab's b is below -8 and 25 or more below its median over the image, and L a tenth of its range or more
    below its own: under a violet lamp all skin is bluish. It goes on as far as b stays 12 below the median. A blue nevus
    or the blue veil of a melanoma is as blue as ink, so a mark that reaches into the middle half of the image's width
    and height is left alone, and ink across a lesion is left with it.
    """
    return filled(image, ink_mask(working_copy(image)))


def ink_mask(image: Image) -> Mask:
    """Where there is ink (h, w), of an image that is no larger than a working copy."""
    lightness, _, b = (channel.astype(np.int16) for channel in cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)))
    bluer, darker = b - np.median(b), np.median(lightness) - lightness
    core = (b - 128 <= BLUE) & (bluer <= BLUER) & (darker >= DARKER)
    count, marks = cv2.connectedComponents((core | ((bluer <= FRINGE) & (darker > 0))).astype(np.uint8))
    height, width = b.shape
    top, left = round(MIDDLE * height), round(MIDDLE * width)
    is_ink = np.bincount(marks[core], minlength=count) >= LEAST_AREA * b.size
    is_ink[marks[top : height - top, left : width - left]] = False
    is_ink[0] = False
    size = odd(GROWN * side_of(image))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return grown(is_ink[marks], disc)
