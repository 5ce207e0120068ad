"""Cleaning: pure functions on one uint8 RGB image (height, width, 3), by the names that configurations give them.

Each is off unless it is named. An image is never written to; where there is nothing to clean it comes back as it is.
Sizes of kernels follow from the image's side, the root of its area, see `pixels`.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from ssl_isic.data.cleaning.aspect import crop_square, pad_square
from ssl_isic.data.cleaning.border import crop_border
from ssl_isic.data.cleaning.bubbles import remove_bubbles
from ssl_isic.data.cleaning.colour_constancy import shades_of_gray
from ssl_isic.data.cleaning.colour_spaces import hsv, lab
from ssl_isic.data.cleaning.hair import remove_hair
from ssl_isic.data.cleaning.illumination import clahe
from ssl_isic.data.cleaning.ink import remove_ink
from ssl_isic.data.cleaning.pixels import Image
from ssl_isic.data.cleaning.ruler import remove_ruler

CLEANERS: dict[str, Callable[[Image], Image]] = {
    "border": crop_border,
    "hair": remove_hair,
    "ruler": remove_ruler,
    "ink": remove_ink,
    "bubbles": remove_bubbles,
    "shades_of_gray": shades_of_gray,
    "clahe": clahe,
    "pad_square": pad_square,
    "crop_square": crop_square,
    "lab": lab,
    "hsv": hsv,
}
NOT_RGB_AFTER = {"lab", "hsv"}


def clean(image: Image, names: Sequence[str]) -> Image:
    """The image after each of the named functions of `CLEANERS`, in order. `names` are ones that `check_names` lets pass."""
    for name in names:
        image = CLEANERS[name](image)
    return image


def check_names(names: list[str]) -> list[str]:
    """The names as they are.

    Raises:
        ValueError: a name that is not in `CLEANERS`, naming the nearest; one given twice; something after a change of
            colour space, since all functions expect RGB.
    """
    for name in names:
        if name not in CLEANERS:
            near = difflib.get_close_matches(name, CLEANERS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(CLEANERS)}"
            raise ValueError(f"no cleaning is called {name}; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice; name it once")
    for name in names[:-1]:
        if name in NOT_RGB_AFTER:
            raise ValueError(f"{name} leaves no RGB for what follows it; name it last")
    return names


def _refuse_word(names: Any) -> Any:
    if isinstance(names, str):
        raise ValueError(f"it is a list; write [{names}]")
    return names


CleanNames = Annotated[list[str], BeforeValidator(_refuse_word), AfterValidator(check_names)]
"""Names of `CLEANERS` in the order in which they are applied, for a key of a `Config`."""
