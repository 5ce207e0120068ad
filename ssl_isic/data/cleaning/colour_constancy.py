"""Shades of gray: the light of the clinic taken out of an image."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.pixels import Image

POWER = 6


def shades_of_gray(image: Image) -> Image:
    """The image (height, width, 3) as under white light: each channel divided by its share of the Minkowski 6-norm.

    The norm is taken of the pixels as they are stored (sRGB), as the dermoscopy literature does (Barata et al. 2014 and
    the ISIC winners after it). Since sRGB is close to a power law of 2.2, that is a gain in linear light too, by a norm
    of about 6 / 2.2. Values past 255 are clipped. The light's length is kept: a gray image comes back as it was.

    Source: Finlayson and Trezzi 2004, Shades of Gray and Colour Constancy, equation 5, p = 6.
    """
    levels = np.arange(256.0)
    counts = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
    norms = np.array([np.average(levels**POWER, weights=count) ** (1 / POWER) for count in counts])
    if not norms.all():
        return image  # a channel that is black throughout has no gain
    gains = np.linalg.norm(norms) / np.sqrt(3) / norms
    table = np.rint(levels[:, None] * gains).clip(0, 255).astype(np.uint8)
    balanced: Image = cv2.LUT(image, table[None])
    return balanced
