"""Twelve colour numbers of a lesion: the baseline that a learned representation has to beat."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.steps.step import Image

COLOUR_NUMBERS = 12


def colour_numbers(image: Image) -> NDArray[np.float64]:
    """Mean and standard deviation of the three Lab channels, over the whole image and over its central quarter, (12,)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float64)
    height, width = lab.shape[:2]
    centre = lab[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return np.concatenate(
        [part.reshape(-1, 3).mean(0) for part in (lab, centre)] + [part.reshape(-1, 3).std(0) for part in (lab, centre)]
    )


def colour_features(pool: ImagePool, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The colour numbers of pool images `indices` (N,), (N, 12); zeros for one that does not decode or is not there."""
    features = np.zeros((len(indices), COLOUR_NUMBERS))
    for row, index in enumerate(indices.tolist()):
        if index < 0:
            continue
        try:
            features[row] = colour_numbers(decode_rgb(pool.read(index)))
        except ImageDecodeError:
            continue
    return features
