"""Any transform of albumentations as a step."""

import json
import os
import random
import warnings
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ssl_isic.data.steps.step import Image, Parameters, Step, sub_seed
from ssl_isic.errors import InputError


class Albumentations(Step):
    """A transform of albumentations by its name, seeded from the view's own random numbers."""

    name: Literal["albumentations"] = "albumentations"
    transform: str = Field(min_length=1)
    """Its class, for instance ElasticTransform."""
    settings: dict[str, Any] = {}
    """The arguments of the class; its chance is `p` of the step."""
    drawn: ClassVar = ("sub_seed",)

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        _built(self.transform, json.dumps(self.settings))
        return self

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        return (sub_seed(rng),)

    def apply(self, image: Image, parameters: Parameters) -> Image:
        transform, seed = _built(self.transform, json.dumps(self.settings)), int(parameters[0])
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        try:
            changed: Image = np.ascontiguousarray(transform(image=image)["image"])
        except Exception as error:  # its transforms raise errors of many kinds
            said = " ".join(str(error).split())
            raise InputError(f"views: {self.transform} fails on an image of {image.shape}: {said}") from None
        if changed.dtype != np.uint8 or changed.ndim != 3 or changed.shape[2] != 3:
            raise InputError(
                f"views: {self.transform} makes {changed.dtype} {changed.shape} of an image, and views are uint8 (h, w, 3); "
                "leave it out: pixels are normalised after the views"
            )
        return changed


@lru_cache
def _built(name: str, settings_json: str) -> Any:
    """The transform, one a process. ValueError where albumentations does not know it or an argument of it."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer release
    import albumentations as A  # takes a second, and only this step needs it

    kind, settings = getattr(A, name, None), json.loads(settings_json)
    if not (isinstance(kind, type) and issubclass(kind, A.ImageOnlyTransform | A.DualTransform)):
        raise ValueError(f"albumentations has no transform of images called {name}")
    if "p" in settings:
        raise ValueError("p stands beside settings, not in them")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it only warns of an argument that it does not know
            return kind(**settings, p=1.0)
    except (TypeError, ValueError, UserWarning) as error:
        raise ValueError(f"the transform {name} cannot be built: {' '.join(str(error).split())}") from None
