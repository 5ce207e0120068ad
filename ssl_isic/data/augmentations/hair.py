"""Hairs across a lesion."""

import numpy as np

from ssl_isic.data.augmentations.colour import Floats, Image
from ssl_isic.data.augmentations.overlay import Drawing, painted
from ssl_isic.data.augmentations.skin import skin_colour

POINTS = 20
THINNEST, THICKEST = 0.004, 0.012
"""Width of a hair as a share of the image's side: 0.06 to 0.18 mm where that is 15 mm, as in ISIC-2024."""
TAPER = ((0.0, 0.6, 1.0), (0.6, 0.85, 0.7), (0.85, 1.0, 0.45))
"""Parts of a hair: from where to where along it, and how wide."""


def add_hair(image: Image, rng: np.random.Generator, most: int = 14, fair: float = 0.2) -> Image:
    """The image with 1 to `most` hairs over it: curved, mostly combed one way, thinner towards the tip.

    They are lit as the skin is: dark ones let 15 to 50 % of its colour through; with chance `fair` they are blond instead,
    a little lighter and yellower than it. Where the edge of the image is black, there is no skin to be lit as, and none.

    Source: in the manner of Attia et al. 2018, Realistic hair simulator for skin lesion images, without its network.
    """
    skin = skin_colour(image)
    if skin is None:
        return image
    height, width, _ = image.shape
    side = min(height, width)
    drawing = Drawing(height, width)
    strands = _strands(rng, 1 + int(rng.integers(most)), height, width)
    coarse = rng.uniform(THINNEST, THICKEST)
    covers = np.sort(rng.uniform(0.3, 0.95, len(strands)))  # where hairs cross, the last drawn is seen
    for points, cover, spread in zip(strands, covers, rng.uniform(0.6, 1.3, len(strands)), strict=True):
        root_px = max(THINNEST, coarse * spread) * side
        for start, end, wide in TAPER:
            drawing.line(points[round(start * POINTS) : round(end * POINTS) + 1], wide * root_px, cover)
    return painted(image, drawing.cover(), 255 * _colour(rng, skin, fair))


def _strands(rng: np.random.Generator, count: int, height: int, width: int) -> Floats:
    """Points (count, POINTS, 2) along hairs, x and y in px."""
    combed = rng.uniform(0, 2 * np.pi)
    along = np.linspace(-0.5, 0.5, POINTS)
    bend, twist, lean = rng.normal(0, 1, (3, count, 1)) * np.array([1.0, 1.6, 0.45])[:, None, None]
    heading = combed + lean + bend * along + twist * along**2
    length = rng.uniform(0.25, 1.1, (count, 1, 1)) * max(height, width)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=-1) * length / POINTS
    middle = rng.uniform(-0.1, 1.1, (count, 1, 2)) * (width, height)
    points: Floats = middle + np.cumsum(steps, axis=1) - steps.sum(axis=1, keepdims=True) / 2
    return points


def _colour(rng: np.random.Generator, skin: Floats, fair: float) -> Floats:
    """sRGB 0..1 of hair beside `skin`."""
    if rng.random() < fair:
        return np.minimum(skin * rng.uniform(1.08, 1.25) * (1.0, 0.99, 0.88), 0.98)
    return skin * rng.uniform(0.15, 0.5) * (1.0, 0.94, 0.9)
