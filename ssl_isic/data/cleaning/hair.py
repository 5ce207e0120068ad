"""Hair removal after DullRazor."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.lines import along_lines, darkness
from ssl_isic.data.cleaning.pixels import Image, Mask, filled, odd, side_of, working_copy

WIDTH, SEGMENT, LENGTH = 0.03, 0.07, 0.15
SURE, LIKELY = 16, 8


def remove_hair(image: Image) -> Image:
    """The image without dark hairs, painted over from beside them; as it is where there are none."""
    return filled(image, hair_mask(working_copy(image)))


def hair_mask(image: Image) -> Mask:
    """Where dark hair is."""
    side = side_of(image)
    dark = darkness(image, odd(WIDTH * side, 5))
    lines = along_lines(dark, odd(SEGMENT * side, 7))
    likely = (lines >= LIKELY).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(likely, connectivity=8)
    strongest = np.zeros(count, np.uint8)
    np.maximum.at(strongest, labels.ravel(), lines.ravel())
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    is_hair = (strongest >= SURE) & (length >= LENGTH * side)
    is_hair[0] = False
    hair = is_hair[labels].astype(np.uint8)
    return cv2.dilate(hair, np.ones((3, 3), np.uint8)) > 0
