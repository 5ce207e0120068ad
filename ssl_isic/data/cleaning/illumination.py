"""Contrast-limited equalisation of lightness: the same local contrast everywhere, colours kept."""

import cv2

from ssl_isic.data.cleaning.pixels import Image

CLIP_LIMIT = 2.0
TILES, TILE_PX = 8, 24


def clahe(image: Image) -> Image:
    """The image with the lightness L of its Lab form equalised tile by tile, a and b as they were.

    Tiles are an eighth of a side, but 24 px or more: a histogram of fewer pixels is noise. The histogram is clipped at
    twice its mean, so no contrast grows more than twofold. What is flat gains as much as what is not: skin comes out
    rougher.

    Source: Zuiderveld 1994, Contrast Limited Adaptive Histogram Equalization.
    """
    height, width = image.shape[:2]
    grid = tuple(min(TILES, max(1, side // TILE_PX)) for side in (width, height))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(CLIP_LIMIT, grid).apply(lab[..., 0])
    even: Image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return even
