"""Reinhard's colour transfer: the skin's colours of another clinic."""

from dataclasses import dataclass

import cv2
import numpy as np

from ssl_isic.data.augmentations.colour import Image
from ssl_isic.data.augmentations.skin import edge_pixels

LEAST_SPREAD, MOST_SPREAD = 0.6, 1.6
"""The contrast is multiplied by no less and no more than this: a smooth edge must not blow up the lesion."""


@dataclass(frozen=True)
class LabStatistics:
    """Mean and standard deviation of L*, a*, b*, in OpenCV's 8-bit form (L* x 2.55, a* + 128, b* + 128)."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


def skin_statistics(image: Image) -> LabStatistics | None:
    """Statistics of the skin along the edge; None where that is black."""
    pixels = edge_pixels(image)
    if not len(pixels):
        return None
    lab = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)
    (m0, m1, m2), (s0, s1, s2) = lab.mean(axis=0).tolist(), lab.std(axis=0).tolist()
    return LabStatistics((m0, m1, m2), (s0, s1, s2))


def reinhard(image: Image, style: LabStatistics, share: float = 1.0) -> Image:
    """The image with its colours moved by `share` of the way to where its skin has the mean and spread of `style`.

    In each channel of Lab, x becomes (x - mean) x spread' / spread + mean'. Where the edge is black it stays as it is.

    Source: Reinhard et al. 2001, Color Transfer between Images, equations 10 and 11. They take the statistics of the whole
    image, where a larger lesion would come out as lighter skin; here it is those of the skin along the edge. Lab is CIE's, in
    place of l-alpha-beta.
    """
    own = skin_statistics(image)
    if own is None:
        return image
    mean, target = np.array(own.mean), np.array(style.mean)
    ratio = np.clip(np.array(style.spread) / np.maximum(own.spread, 1e-6), LEAST_SPREAD, MOST_SPREAD)
    levels = np.arange(256.0)[:, None]
    moved = (levels - mean) * ratio + target
    table = np.rint(np.clip(levels + share * (moved - levels), 0, 255)).astype(np.uint8)
    lab = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), table[None])
    styled: Image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB, dst=lab)
    return styled
