"""Compressed bytes to pixels, at half, a quarter or an eighth of the size where what is shown of them needs no more.

A JPEG is decoded at a fraction of its size by a smaller inverse DCT of each of its 8 x 8 blocks: the colours are transformed
and stored for a part of the pixels only. Other fractions than these three take longer than the whole does (docs/loading.md).
"""

import io
from dataclasses import dataclass
from math import sqrt

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

REDUCTIONS = (8, 4, 2)


class ImageDecodeError(ValueError):
    """The bytes of one image do not decode."""


@dataclass(frozen=True)
class Shown:
    """The least that a view shows of an image, whatever is drawn, and at which size.

    Args:
        size: side of the view, px.
        share: the square of the shortest side that its crop can have, as a share of the area of the image; None when the
            view shows the whole image.
    """

    size: int
    share: float | None = None

    def shortest_px(self, height: int, width: int) -> float:
        """The shortest side that can be shown of an image of this size, px."""
        whole = min(height, width)
        return whole if self.share is None else min(whole, sqrt(height * width * self.share))


def reduction(height: int, width: int, shown: tuple[Shown, ...]) -> int:
    """By how much an image may be reduced so that no view of `shown` has to be enlarged for it: 1, 2, 4 or 8.

    A function of sizes and settings, never of what was drawn: an image is decoded alike whenever it comes up. With no
    `shown`, nothing is known of what will be looked at, and the image is left whole.
    """
    if not shown:
        return 1
    room = min(view.shortest_px(height, width) / view.size for view in shown)
    return next((factor for factor in REDUCTIONS if factor <= room), 1)


def decode_rgb(data: bytes, shown: tuple[Shown, ...] = ()) -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes into uint8 RGB pixels of shape (height, width, 3).

    With `shown`, a JPEG is decoded at the size, rounded up, that `reduction` allows; anything else always whole.

    Raises:
        ImageDecodeError: the bytes are truncated, damaged or no image.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _decode_jpeg(data, shown)
        return _decode_with_pillow(data)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageDecodeError(str(error) or type(error).__name__) from None


def _decode_jpeg(data: bytes, shown: tuple[Shown, ...]) -> NDArray[np.uint8]:
    try:
        least_height = least_width = 0
        if shown:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            factor = reduction(height, width, shown)
            least_height, least_width = -(-height // factor), -(-width // factor)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=least_height, min_width=least_width, strict=True
        )
    except ValueError:
        return _decode_with_pillow(data)  # CMYK and other rarities; raises for a truncated file
    return pixels


def _decode_with_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):  # grey of 16 bits, which Pillow would clip at 255
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if image.mode in ("I", "F"):
            raise ImageDecodeError(f"its pixels have 32 bits (mode {image.mode}), of which nothing says what is white")
        return np.asarray(image.convert("RGB"))
