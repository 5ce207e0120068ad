"""Resizing that keeps the aspect: a lesion that is round stays round, whatever the shape of the photograph."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.pixels import Image


def pad_square(image: Image) -> Image:
    """The whole image in the middle of a square, beside it the median colour of its edge: nothing is cut, nothing stretched.

    The longer side stays as it is. (Bars of one colour hold no second lesion, as a mirrored edge may.)
    """
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return image
    top, left = (side - height) // 2, (side - width) // 2
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.median(edge, axis=0).astype(np.uint8)
    square[top : top + height, left : left + width] = image
    return square


def crop_square(image: Image) -> Image:
    """The square in the middle of the image; the shorter side stays as it is, a lesion at the end of the longer is cut."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image if height == width else image[top : top + side, left : left + side].copy()


def resize_padded(image: Image, size: int) -> Image:
    """The whole image at `size` x `size` px, not stretched, see `pad_square`."""
    return _resized(pad_square(image), size)


def resize_cropped(image: Image, size: int) -> Image:
    """The middle of the image at `size` x `size` px, not stretched, see `crop_square`."""
    return _resized(crop_square(image), size)


def _resized(square: Image, size: int) -> Image:
    # as the views do: without averaging, an image that shrinks is aliased
    method = cv2.INTER_AREA if size < len(square) else cv2.INTER_LINEAR
    resized: Image = cv2.resize(square, (size, size), interpolation=method)
    return resized
