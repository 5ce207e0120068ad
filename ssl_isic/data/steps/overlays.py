"""What lies between a lesion and the eye: hairs, a ruler, a microscope's border. And skin that is stretched."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ssl_isic.data.augmentations.elastic import deformed, elastic_places
from ssl_isic.data.augmentations.hair import add_hair
from ssl_isic.data.augmentations.microscope_border import add_microscope_border
from ssl_isic.data.augmentations.ruler import add_ruler
from ssl_isic.data.steps.step import Image, Parameters, Step, sub_seed


class Hair(Step):
    """Hairs, curved and thin, dark or fair. Source: after Attia et al. 2018."""

    name: Literal["hair"] = "hair"
    most: int = Field(14, ge=1)
    """Hairs are 1 to this many."""
    fair: float = Field(0.2, ge=0, le=1)
    """Chance that they are blond."""
    p: float = Field(0.3, ge=0, le=1)
    drawn: ClassVar = ("sub_seed",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (sub_seed(rng),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return add_hair(image, np.random.default_rng(int(parameters[0])), self.most, self.fair)


class Ruler(Step):
    """A dermoscope's millimetre ticks along an edge. Source: see ruler.py."""

    name: Literal["ruler"] = "ruler"
    p: float = Field(0.1, ge=0, le=1)
    drawn: ClassVar = ("sub_seed",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (sub_seed(rng),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return add_ruler(image, np.random.default_rng(int(parameters[0])))


class MicroscopeBorder(Step):
    """Black corners, or all round, as through a dermoscope. Source: see microscope_border.py."""

    name: Literal["microscope_border"] = "microscope_border"
    p: float = Field(0.1, ge=0, le=1)
    drawn: ClassVar = ("sub_seed",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (sub_seed(rng),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        return add_microscope_border(image, np.random.default_rng(int(parameters[0])))


class Elastic(Step):
    """Elastic deformation. Source: Ronneberger et al. 2015, section 3.1."""

    name: Literal["elastic"] = "elastic"
    strength: float = Field(0.08, ge=0, le=0.15)
    """Standard deviation of the displacements, in parts of a `cells`-th of the side; from 0.1 on the image may fold."""
    cells: int = Field(4, ge=1, le=16)
    """The grid has this many cells a side."""
    p: float = Field(0.3, ge=0, le=1)
    drawn: ClassVar = ("sub_seed",)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (sub_seed(rng),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        height, width, _ = image.shape
        rng = np.random.default_rng(int(parameters[0]))
        return deformed(image, elastic_places(rng, height, width, self.strength, self.cells))
