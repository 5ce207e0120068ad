"""The same pixels in other coordinates: three uint8 channels that are no longer red, green and blue."""

import cv2

from ssl_isic.data.cleaning.pixels import Image


def lab(image: Image) -> Image:
    """CIE L*a*b* (D65) of sRGB: L * 255 / 100, a + 128, b + 128. Source: CIE 1976, in OpenCV's 8-bit form."""
    converted: Image = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    return converted


def hsv(image: Image) -> Image:
    """Hue (255 is the whole circle), saturation and value. Source: Smith 1978, Color Gamut Transform Pairs."""
    converted: Image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    return converted
