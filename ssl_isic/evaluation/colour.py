"""Twelve colour numbers of a lesion: the baseline that a learned representation has to beat."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning import NOT_RGB_AFTER, clean
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.steps.step import Image

COLOUR_NUMBERS = 12


def colour_numbers(image: Image) -> NDArray[np.float64]:
    """Mean and standard deviation of the three Lab channels, over the whole image and over its central quarter, (12,)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    height, width = lab.shape[:2]
    centre = lab[height // 4 : height - height // 4, width // 4 : width - width // 4]
    means, deviations = zip(*(cv2.meanStdDev(part) for part in (lab, centre)), strict=True)
    return np.concatenate([*means, *deviations]).reshape(-1)


def colour_features(pool: ImagePool, indices: NDArray[np.int64], cleaning: Sequence[str] = ()) -> NDArray[np.float64]:
    """The colour numbers of pool images `indices` (N,), (N, 12); zeros for one that does not decode or is not there.

    `cleaning` names what is done to each image first. A change of colour space is left out: the numbers are of Lab.
    """
    features, rgb = np.zeros((len(indices), COLOUR_NUMBERS)), [name for name in cleaning if name not in NOT_RGB_AFTER]
    for row, index in enumerate(indices.tolist()):
        if index < 0:
            continue
        try:
            features[row] = colour_numbers(clean(decode_rgb(pool.read(index)), rgb))
        except ImageDecodeError:
            continue
    return features
