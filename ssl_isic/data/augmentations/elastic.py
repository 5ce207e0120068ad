"""Elastic deformation: skin that is stretched a little, differently from place to place."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.augmentations.colour import Image

Places = NDArray[np.float32]
"""Where each pixel of the result comes from (height, width, 2), x and y in px."""


def elastic_places(rng: np.random.Generator, height: int, width: int, strength: float = 0.08, cells: int = 4) -> Places:
    """A smooth random field of displacements, added to where each pixel is.

    Displacements are normal at `cells` + 1 nodes a side, with a standard deviation of `strength` of a `cells`-th of the side,
    and bicubic between them: at 0.08 nothing is folded over, at 0.15 one field of six is.

    Source: Ronneberger et al. 2015 (U-Net), section 3.1, after Simard et al. 2003.
    """
    nodes = rng.standard_normal((cells + 1, cells + 1, 2), np.float32)
    nodes *= np.array([strength * width / cells, strength * height / cells], np.float32)
    places: Places = cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC)
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places


def deformed(image: Image, places: Places) -> Image:
    """The image with each pixel taken from `places`, bilinear; what lies beyond the border is the image mirrored."""
    moved: Image = cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return moved


def deformed_mask(mask: NDArray[np.uint8], places: Places) -> NDArray[np.uint8]:
    """A mask (height, width) of labels moved as `deformed` moves its image; no label is mixed with another."""
    moved: NDArray[np.uint8] = cv2.remap(mask, places, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return moved
