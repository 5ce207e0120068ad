"""Skin-tone simulation: the same lesion on lighter or darker skin, along the individual typology angle (ITA).

ITA = arctan((L* - 50) / b*) in degrees, CIELAB under D65; the lighter the skin, the larger. Its six classes are in
`CATEGORIES`. Source: Chardon et al. 1991, Skin colour typology and suntanning pathways; Del Bino and Bernerd 2013.

Melanin is a layer that light crosses twice: more of it multiplies what comes back, at each px, by exp(-absorption x amount)
(Beer-Lambert), skin and lesion alike. So a lesion that is darker than the skin stays darker, by the same factor of light,
and a black border stays black. Which amount moves the skin to the angle that is asked for is solved for each image.

A photograph is no colorimeter: under a bluish lamp, or a dermoscope's white balance, b* is small or below 0, and the angle
is 80 degrees or, counted on (arctan2), above 90. It is then a measure of how much the image was changed, not of skin; and
where the light is so blue that skin is about as dark as L* 50 before it is yellow, no amount of melanin leads to the angle
without passing where it means nothing: such an image is left as it is.
"""

import math

import cv2
import numpy as np

from ssl_isic.data.augmentations.colour import LINEAR_LEVELS, Floats, Image, lab_of, linear_of, srgb_of
from ssl_isic.data.augmentations.skin import skin_colour

CATEGORIES = (
    ("very light", 55.0),
    ("light", 41.0),
    ("intermediate", 28.0),
    ("tan", 10.0),
    ("brown", -30.0),
    ("dark", -math.inf),
)
"""Each class, and the angle above which it begins."""
LIGHTEST, DARKEST = 75.0, -60.0
"""No skin is lighter or darker than this, degrees."""
ABSORPTION = np.array([0.7, 1.0, 1.3])
"""Of melanin for red, green and blue light, relative to green. Melanosomes' falls with the wavelength to the power -3.48
(Jacques 1998), which is 0.73, 1, 1.8; it is flatter here since skin scatters what it does not absorb: with these b* rises
from very light to tan skin and falls again towards dark, as where skin has been measured (Chardon et al. 1991)."""
SURFACE = 0.01
"""Share of the light that is reflected before it reaches any melanin."""
MOST_LIGHT = 250 / 255
"""Skin is not lightened beyond this sRGB value, where it would burn out."""
LEAST_RADIUS = 6.0
"""Nearer than this to L* 50 and b* 0 the angle hangs on nothing: one unit of b* is more than 9 degrees."""
_AMOUNTS = np.arange(-32, 81) / 20
_NO_CHANGE = 32
"""Where 0 is in `_AMOUNTS`."""


def ita_of(lab: Floats) -> Floats:
    """ITA in degrees (...) of CIELAB (..., 3); above 90 where b* is negative and L* above 50."""
    return np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2]))


def category(ita: float) -> str:
    """The class of skin that an angle, degrees, belongs to: `very light` to `dark`."""
    return next(name for name, limit in CATEGORIES if ita > limit)


def skin_ita(image: Image) -> float | None:
    """ITA of the skin around the lesion, degrees; None where that is black, or darker than L* 50 and bluish: no skin."""
    colour = skin_colour(image)
    return None if colour is None else _measured(colour)


def shift_ita(image: Image, degrees: float) -> Image:
    """The image with its skin's ITA `degrees` larger (lighter) or smaller (darker), between -60 and 75 degrees.

    An image whose skin is out of these limits is moved inwards only. It comes back as it is where `skin_ita` is None or no
    amount of melanin leads there.
    """
    colour = skin_colour(image)
    ita = None if colour is None else _measured(colour)
    if colour is None or ita is None:
        return image
    return _tinted(image, _amount(colour, min(max(ita + degrees, min(ita, DARKEST)), max(ita, LIGHTEST))))


def set_ita(image: Image, ita: float) -> Image:
    """The image with its skin moved to an ITA of `ita` degrees, and as it is where `shift_ita` leaves it so."""
    colour = skin_colour(image)
    if colour is None or _measured(colour) is None:
        return image
    return _tinted(image, _amount(colour, ita))


def _measured(srgb: Floats) -> float | None:
    lab = lab_of(linear_of(srgb))
    return None if lab[0] < 50 and lab[2] <= 0 else float(ita_of(lab))


def _amount(srgb: Floats, ita: float) -> float:
    """How much melanin moves a colour (3,) to `ita`, less where it would burn out; 0 where none leads there."""
    linear = linear_of(srgb)
    labs = lab_of(_through(linear, _AMOUNTS[:, None]))
    itas = ita_of(labs)
    first, last = _sound(labs, itas)
    if not itas[last] <= ita <= itas[first]:
        return 0.0
    room = np.log((linear_of(np.array(MOST_LIGHT)) - SURFACE) / np.maximum(linear - SURFACE, 1e-9)) / ABSORPTION
    least = min(0.0, -float(room.min()))
    stretch = slice(last, first - 1 if first else None, -1)  # interpolation wants the angle rising
    return max(least, float(np.interp(ita, itas[stretch], _AMOUNTS[stretch])))


def _sound(labs: Floats, itas: Floats) -> tuple[int, int]:
    """The first and last place of the stretch around no change on which the angle says something and falls with melanin."""
    vague = np.hypot(labs[:, 0] - 50, labs[:, 2]) < LEAST_RADIUS
    breaks = vague[1:] | vague[:-1] | (np.diff(itas) >= 0)
    before, after = np.flatnonzero(breaks[:_NO_CHANGE]), np.flatnonzero(breaks[_NO_CHANGE:])
    return (int(before[-1]) + 1 if before.size else 0), (_NO_CHANGE + int(after[0]) if after.size else len(itas) - 1)


def _through(linear: Floats, amount: Floats) -> Floats:
    """Linear light (..., 3) seen through `amount` more melanin, broadcast against it."""
    below = np.minimum(linear, SURFACE)
    return below + (linear - below) * np.exp(-ABSORPTION * amount)


def _tinted(image: Image, amount: float) -> Image:
    levels = srgb_of(np.clip(_through(LINEAR_LEVELS[:, None], np.array(amount)), 0, 1))
    tinted: Image = cv2.LUT(image, np.rint(255 * levels).astype(np.uint8)[None])
    return tinted
