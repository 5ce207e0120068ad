"""Which pixels of a lesion's image are skin, and what colour that is."""

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.augmentations.colour import Floats, Image

RING_SHARE = 1 / 8
"""Width of the ring along the edge, as a share of the side that it lies across."""
BLACK = 36
"""Pixels with no channel above this are a dermoscope's black border."""
LEAST_LIT = 0.1
LIGHTER_SHARE = 0.6
"""Hairs, and a lesion that reaches the edge, are darker than skin: it is taken a little above the middle of the ring."""
GRID = 48


def edge_pixels(image: Image) -> Image:
    """Pixels (N, 3) of the ring along the edge, an eighth of each side wide: what lies outside the lesion, mostly.

    A photograph of a lesion is aimed at it, and ISIC-2024's crops are 15 mm around it. A dermoscope's black border is left
    out. Of a large image every second, third, ... row and column is looked at, 48 of the shorter side at least.
    """
    step = max(1, min(image.shape[:2]) // GRID)
    grid = image[::step, ::step]
    height, width, _ = grid.shape
    down, across = max(1, round(height * RING_SHARE)), max(1, round(width * RING_SHARE))
    middle = slice(down, height - down)
    parts = (grid[:down], grid[height - down :], grid[middle, :across], grid[middle, width - across :])
    ring = np.concatenate([part.reshape(-1, 3) for part in parts])
    lit: Image = ring[(ring > BLACK).any(axis=1)]
    return lit if len(lit) >= LEAST_LIT * len(ring) else lit[:0]


def skin_colour(image: Image) -> Floats | None:
    """The skin's red, green and blue as sRGB 0..1 (3,); None where the edge of the image is black.

    Each is the 60th percentile of `edge_pixels`: an order statistic, so that a change of tone, channel by channel, changes
    it by just that.
    """
    pixels: NDArray[np.uint8] = edge_pixels(image)
    if not len(pixels):
        return None
    place = int(LIGHTER_SHARE * (len(pixels) - 1))
    colour: Floats = np.partition(pixels, place, axis=0)[place] / 255
    return colour
