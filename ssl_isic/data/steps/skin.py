"""Other skin and other clinics: skin tone along the typology angle, styles of clinics."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, computed_field, model_validator

from ssl_isic.data.augmentations.fourier_style import fourier_style
from ssl_isic.data.augmentations.reinhard import reinhard
from ssl_isic.data.augmentations.skin_tone import set_ita, shift_ita
from ssl_isic.data.steps.step import Image, Parameters, Shares, Step, uniform, whole_number
from ssl_isic.data.styles import Styles, read_styles
from ssl_isic.errors import InputError


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not -90 <= limits[0] <= limits[1] <= 90:
        raise ValueError("write [smallest, largest], degrees from -90 to 90")
    return limits


Degrees = Annotated[tuple[float, float], AfterValidator(_in_order)]
"""The smallest and the largest angle that is drawn, degrees; below 0 too."""


class SkinToneShift(Step):
    """The skin made darker or lighter by an angle of typology. Source: Chardon et al. 1991, see skin_tone.py."""

    name: Literal["skin_tone_shift"] = "skin_tone_shift"
    degrees: Degrees = (-30.0, 10.0)
    """How far the individual typology angle moves, [smallest, largest]; below 0 is darker."""
    drawn: ClassVar = ("degrees",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (uniform(rng, self.degrees),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return shift_ita(image, parameters[0])


class SkinTone(Step):
    """The skin moved to an angle of typology, whatever it was. Source: Chardon et al. 1991, see skin_tone.py."""

    name: Literal["skin_tone"] = "skin_tone"
    ita: Degrees = (-40.0, 65.0)
    """The individual typology angle, [smallest, largest]: above 55 very light, 28 tan and lighter, below -30 dark."""
    drawn: ClassVar = ("ita",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (uniform(rng, self.ita),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return set_ita(image, parameters[0])


class _OfStyles(Step):
    styles: Path
    """What `ssl-isic styles` wrote."""
    share: Shares = (0.3, 0.8)
    """How far an image goes towards the style, [smallest, largest]."""
    drawn: ClassVar = ("style", "share")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sha256(self) -> str:
        """Of the file: a run keeps its views, and is not resumed with other styles."""
        return hashlib.sha256(self.styles.read_bytes()).hexdigest()

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        try:
            _read(self.styles)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return whole_number(rng, len(_read(self.styles).clinics)), uniform(rng, self.share)


class ReinhardStyle(_OfStyles):
    """The skin's colours of a clinic. Source: Reinhard et al. 2001."""

    name: Literal["reinhard_style"] = "reinhard_style"

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return reinhard(image, _read(self.styles).clinics[int(parameters[0])].skin, parameters[1])


class FourierStyle(_OfStyles):
    """A clinic's slow variation of light and colour. Source: Yang and Soatto 2020 (FDA)."""

    name: Literal["fourier_style"] = "fourier_style"

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return fourier_style(image, _read(self.styles).clinics[int(parameters[0])].amplitudes, parameters[1])


@lru_cache
def _read(path: Path) -> Styles:
    """The styles in a file, read once a process."""
    return read_styles(path)
