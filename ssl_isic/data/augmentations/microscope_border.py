"""The black round of a microscope's field of view."""

import numpy as np

from ssl_isic.data.augmentations.colour import Image
from ssl_isic.data.augmentations.overlay import painted

RADIUS = (0.78, 1.3)
"""Of the field of view, as a share of half the shorter side: below 1 all of the circle is seen, above it corners are cut."""
MOST_OFF = 0.06


def add_microscope_border(image: Image, rng: np.random.Generator) -> Image:
    """The image as through a dermoscope: black outside a circle about its middle, with a soft rim.

    The radius is 0.78 to 1.3 halves of the shorter side, so a third of them show the whole circle and the rest black
    corners; the middle is off by up to 0.06 of the side.

    Source: as in HAM10000 and ISIC-2019 (Gessert et al. 2020, section 2.2, cut it away).
    """
    height, width, _ = image.shape
    half = min(height, width) / 2
    radius = rng.uniform(*RADIUS) * half
    rim_px = max(1.0, rng.uniform(0.01, 0.08) * half)
    off_y, off_x = rng.uniform(-MOST_OFF, MOST_OFF, 2) * (height, width)
    y = np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2 + off_y)
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2 + off_x)
    beyond = (np.sqrt(y[:, None] ** 2 + x**2) - np.float32(radius)) / np.float32(rim_px)
    cover = (255 * np.clip(beyond, 0, 1)).astype(np.uint8)
    return painted(image, cover, rng.uniform(0, 14) + rng.uniform(0, 5, 3))
