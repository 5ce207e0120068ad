"""Air bubbles in the immersion fluid, and the flash's reflections, painted over."""

import cv2

from ssl_isic.data.cleaning.pixels import Image, Mask, filled, grown, odd, side_of, working_copy

SIZE = 0.06
WHITE, BRIGHTER = 215, 35


def remove_bubbles(image: Image) -> Image:
    """The image without specular spots and rims of bubbles, painted over from beside them; itself where there are none."""
    return filled(image, bubble_mask(working_copy(image)))


def bubble_mask(image: Image) -> Mask:
    """Where it is nearly white, in all channels, and clearly brighter than what lies around."""
    size = odd(SIZE * side_of(image), 5)
    least = image.min(axis=2)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    raised = cv2.morphologyEx(least, cv2.MORPH_TOPHAT, disc)
    spots = (least >= WHITE) & (raised >= BRIGHTER)
    return grown(spots)
