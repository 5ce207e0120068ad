"""The black that a dermoscope leaves around its field of view, cut away."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning.pixels import Image, Mask, working_copy

BLACK = 36
GRID_PX = 128
LEAST_SHARE = 0.3

Box = tuple[int, int, int, int]


def crop_border(image: Image) -> Image:
    """The largest rectangle of the image without the black of a microscope's circle or of bars; itself where none is.

    Black is where no channel reaches 36, joined to a corner of the image: a black lesion in the field of view is none. An
    image of which less than 0.3 would remain is left as it is, since it is the lesion then that is dark.

    Source: after Gessert et al. 2020, Skin lesion classification using ensembles of multi-resolution EfficientNets
    with meta data, section 2.2, who crop to the circle's bounding box and leave black corners.
    """
    top, bottom, left, right = lit_box(image)
    height, width = image.shape[:2]
    if (bottom - top, right - left) == (height, width):
        return image
    return image[top:bottom, left:right].copy()


def lit_box(image: Image) -> Box:
    """Rows from `top` to before `bottom` and columns from `left` to before `right` that `crop_border` leaves, px."""
    height, width = image.shape[:2]
    black = _corner_black(working_copy(image))
    if not black.any():
        return 0, height, 0, width
    share = min(1.0, GRID_PX / max(black.shape))
    size = (max(1, round(black.shape[1] * share)), max(1, round(black.shape[0] * share)))
    lit = cv2.resize(black.astype(np.float32), size, interpolation=cv2.INTER_AREA) < 0.02
    top, bottom, left, right = largest_rectangle(lit)
    if (bottom - top) * (right - left) < LEAST_SHARE * lit.size:
        return 0, height, 0, width
    down, across = height / lit.shape[0], width / lit.shape[1]
    return int(np.ceil(top * down)), int(bottom * down), int(np.ceil(left * across)), int(right * across)


def _corner_black(image: Image) -> Mask:
    dark = (cv2.medianBlur(image, 3).max(axis=2) < BLACK).astype(np.uint8)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    corners = np.unique(labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    black: Mask = np.isin(labels, corners[corners > 0])
    return black


def largest_rectangle(lit: NDArray[np.bool_]) -> Box:
    """The rectangle of the largest area in which every cell of `lit` (h, w) is true, as (top, bottom, left, right).

    Each rectangle stands on some row; there it is the widest at the height of one of its columns, which a stack of rising
    heights finds in one pass.
    """
    best, box = 0, (0, 0, 0, 0)
    heights = np.zeros(lit.shape[1] + 1, np.int64)
    for row, cells in enumerate(lit):
        heights[:-1] = (heights[:-1] + 1) * cells
        rising = list[tuple[int, int]]()  # where a height begins, and it
        for column, height in enumerate(heights.tolist()):
            start = column
            while rising and rising[-1][1] >= height:
                start, tall = rising.pop()
                if tall * (column - start) > best:
                    best, box = tall * (column - start), (row + 1 - tall, row + 1, start, column)
            rising.append((start, height))
    return box
