"""Colour as colorimetry has it: linear light, and CIELAB under D65, of sRGB. Values of linear light are 0..1."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB (height, width, 3)."""
Floats = NDArray[np.float64]


def linear_of(srgb: Floats) -> Floats:
    """Linear light of sRGB values 0..1, of any shape. Source: IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb_of(linear: Floats) -> Floats:
    """sRGB values of linear light 0..1, the inverse of `linear_of`."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def lab_of(linear: Floats) -> Floats:
    """CIELAB (..., 3) under D65 of linear light (..., 3): L* 0..100, a* and b*. Source: CIE 15:2004, section 8.2.1."""
    xyz = linear @ _XYZ_OF_WHITE_1.T
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    lightness, a, b = 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    return np.stack([lightness, a, b], axis=-1)


_EPSILON, _KAPPA = 216 / 24389, 24389 / 27
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # IEC 61966-2-1
_XYZ_OF_WHITE_1 = _XYZ / _XYZ.sum(axis=1, keepdims=True)

LINEAR_LEVELS = linear_of(np.arange(256) / 255)
"""Linear light of the 256 levels of sRGB."""
