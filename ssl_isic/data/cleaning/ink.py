"""Marks of a surgeon's pen (gentian violet), painted over."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.pixels import Image, Mask, filled, side_of, working_copy

BLUE = -14
LEAST_AREA = 0.001


def remove_ink(image: Image) -> Image:
    """The image without violet and blue ink, painted over from beside it; itself where there is none."""
    return filled(image, ink_mask(working_copy(image)))


def ink_mask(image: Image) -> Mask:
    """Where the colour is bluer than that of any lesion."""
    b = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 2].astype(np.int16) - 128
    blue = (b <= BLUE).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(blue, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA * side_of(image) ** 2
    large[0] = False
    return cv2.dilate(large[labels].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
