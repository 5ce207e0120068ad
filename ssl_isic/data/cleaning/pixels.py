"""What the cleaning functions share: the size at which an image is searched, and how what was found is filled.

Images are uint8 RGB (height, width, 3). The side of an image is the root of its area, px.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

WORK_PX = 640
FILL_RADIUS = 0.012
ONE_MORE = np.ones((3, 3), np.uint8)


def side_of(image: Image) -> float:
    """The side of the square that has the image's area, px."""
    return float(np.sqrt(image.shape[0] * image.shape[1]))


def odd(length: float, least: int = 3) -> int:
    """The odd number nearest to `length`, `least` or more: the size of a kernel that has a centre."""
    return max(least, 2 * round((length - 1) / 2) + 1)


def working_copy(image: Image) -> Image:
    """The image itself, or where its side is over `WORK_PX` a copy reduced to that: thin things are found there too."""
    share = WORK_PX / side_of(image)
    if share >= 1:
        return image
    height, width = image.shape[:2]
    copy: Image = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    return copy


def grown(mask: NDArray[np.generic], kernel: NDArray[np.uint8] = ONE_MORE) -> Mask:
    """The mask (h, w) and what the kernel reaches from it: by default one pixel more all around."""
    wider: Mask = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    return wider


def filled(image: Image, mask: Mask) -> Image:
    """The image with what `mask` marks on its working copy painted over from around it; itself where that is nothing.

    Source: Telea 2004, fast marching inpainting.
    """
    if not mask.any():
        return image
    copy = working_copy(image)
    marks = mask.astype(np.uint8)
    painted: Image = cv2.inpaint(copy, marks, max(2.0, FILL_RADIUS * side_of(copy)), cv2.INPAINT_TELEA)
    if copy is image:
        return painted
    size = (image.shape[1], image.shape[0])
    marks = cv2.resize(marks, size, interpolation=cv2.INTER_LINEAR_EXACT)
    painted = cv2.resize(painted, size, interpolation=cv2.INTER_LINEAR)
    return np.where(marks[..., None] > 0, painted, image)
