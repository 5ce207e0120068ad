"""Fourier style transfer: the slow variation of light and colour of another clinic under the structure of this lesion."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.augmentations.colour import Image

Amplitudes = NDArray[np.float64]
"""Of the frequencies -K..K down and 0..K across, cycles an image (2K + 1, K + 1, 3): the modulus of the discrete Fourier
transform over the number of pixels, so that images of different sizes compare. [K, 0] is the mean level."""
MOST_GAIN = 2.0


def low_amplitudes(image: Image, highest: int) -> Amplitudes:
    """The amplitudes of the frequencies up to `highest` cycles an image."""
    return np.abs(_low_frequencies(image, highest))


def fourier_style(image: Image, amplitudes: Amplitudes, share: float = 1.0, most_gain: float = MOST_GAIN) -> Image:
    """The image with its own low amplitudes moved by `share` towards `amplitudes`, its phases as they are.

    None grows to more than `most_gain` times what it was: a frequency that is hardly there has a phase that means nothing,
    and would come out as a blot. `math.inf` leaves the paper's equation.

    Source: Yang and Soatto 2020, FDA: Fourier Domain Adaptation for Semantic Segmentation, equation 3, where a whole
    image of the other domain gives the amplitudes, `share` is 1 and K = beta x side. The few frequencies that change are
    computed one by one, which is the same as a full transform and several times faster.
    """
    height, width, _ = image.shape
    highest = amplitudes.shape[1] - 1
    own = _low_frequencies(image, highest)
    size = np.abs(own)
    change = own * np.minimum(share * (amplitudes - size) / np.maximum(size, 1e-9), most_gain - 1)
    change[:, 1:] *= 2  # the frequencies that are not computed are the conjugates of these
    down, across = _waves(height, highest, both=True), _waves(width, highest, both=False)
    rows = np.einsum("uvc,vw->uwc", change, across.conj()).reshape(len(down), -1)
    added = _parts(down).T @ _parts(rows)  # the real part of conj(down).T @ rows
    styled: Image = np.rint(np.clip(image + added.reshape(image.shape), 0, 255)).astype(np.uint8)
    return styled


def _low_frequencies(image: Image, highest: int) -> NDArray[np.complex128]:
    """Coefficients (2K + 1, K + 1, 3) of an image, over the number of its pixels."""
    height, width, _ = image.shape
    down, across = _waves(height, highest, both=True), _waves(width, highest, both=False)
    cosines, sines = np.split(_parts(down) @ image.reshape(height, -1).astype(np.float32), 2)
    rows = (cosines + 1j * sines).reshape(len(down), width, 3)
    found: NDArray[np.complex128] = np.einsum("uwc,vw->uvc", rows, across) / (height * width)
    return found


def _parts(values: NDArray[np.complex128]) -> NDArray[np.float32]:
    """The real parts (N, M), and below them the imaginary ones, (2N, M)."""
    return np.concatenate([values.real, values.imag]).astype(np.float32)


@lru_cache(maxsize=64)
def _waves(size: int, highest: int, *, both: bool) -> NDArray[np.complex128]:
    """exp(-2 pi i f x / size) for the frequencies f from -highest (or 0) to highest, and x from 0 to size - 1."""
    frequencies = np.arange(-highest if both else 0, highest + 1)
    waves: NDArray[np.complex128] = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(size)) / size)
    return waves
