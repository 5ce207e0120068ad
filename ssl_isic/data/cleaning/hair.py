"""Hair removal after DullRazor: dark lines found by morphology, and painted over."""

import cv2
import numpy as np

from ssl_isic.data.cleaning.lines import along_lines, darkness
from ssl_isic.data.cleaning.pixels import Image, Mask, filled, grown, odd, side_of, working_copy

WIDTH, SHORT, STRAIGHT, AROUND = 0.03, 0.07, 0.15, 0.12
CONTRAST, LEAST_CONTRAST, STRAIGHT_SHARE = 0.08, 8.0, 0.1


def remove_hair(image: Image) -> Image:
    """The image without dark hairs, painted over from beside them; itself where there are none. White hairs stay.

    A hair is narrower than 0.03 of the side (5 px or more), is darker than what lies beside it in all channels by 0.08
    of the image's median, and runs straight for 0.15 of the side somewhere. From there it is followed as far as lines of
    0.07 of the side go on with half the contrast, unless a tenth of what is found so is straight or less. The straight
    pieces are what keeps a lesion: pigment networks, streaks and rows of globules are as dark and as thin, but shorter.
    A hair that is curled throughout stays for it.

    Sources: Lee et al. 1997, DullRazor: a software approach to hair removal from images (closing by segments in several
    directions, and the test of length); the lines are painted over by Telea 2004 instead of interpolated across.
    """
    return filled(image, hair_mask(working_copy(image)))


def hair_mask(image: Image) -> Mask:
    """Where dark hair is (h, w), of an image that is no larger than a working copy."""
    side = side_of(image)
    dark = darkness(image, odd(WIDTH * side, 5), odd(AROUND * side, 7))
    contrast = max(LEAST_CONTRAST, CONTRAST * float(np.median(image)))
    thin = along_lines(dark, odd(SHORT * side, 7)) >= contrast / 2
    straight = thin & (along_lines(dark, odd(STRAIGHT * side, 9)) >= contrast)
    count, pieces = cv2.connectedComponents(thin.astype(np.uint8))
    straight_px, all_px = (np.bincount(pieces[where], minlength=count) for where in (straight, thin))
    is_hair = straight_px > STRAIGHT_SHARE * all_px
    is_hair[0] = False
    return grown(is_hair[pieces])
