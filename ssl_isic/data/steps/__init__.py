"""The steps of views: the union lists them. How one is added stands at the head of `step.py`."""

from typing import Annotated

from pydantic import Field

from ssl_isic.data.steps.blur import GaussianBlur
from ssl_isic.data.steps.crop import RandomResizedCrop, Resize
from ssl_isic.data.steps.dropout import CoarseDropout
from ssl_isic.data.steps.jitter import ColourJitter
from ssl_isic.data.steps.overlays import Elastic, Hair, MicroscopeBorder, Ruler
from ssl_isic.data.steps.skin import FourierStyle, ReinhardStyle, SkinTone, SkinToneShift
from ssl_isic.data.steps.symmetries import D4, HorizontalFlip, VerticalFlip
from ssl_isic.data.steps.tone import Gamma, Grey, Solarize
from ssl_isic.data.steps.warp import Rotate, Zoom
from ssl_isic.data.steps.wrapped import Albumentations

AnyStep = Annotated[
    RandomResizedCrop
    | Resize
    | HorizontalFlip
    | VerticalFlip
    | D4
    | Rotate
    | Zoom
    | ColourJitter
    | Grey
    | Solarize
    | Gamma
    | GaussianBlur
    | CoarseDropout
    | Elastic
    | SkinToneShift
    | SkinTone
    | Hair
    | Ruler
    | MicroscopeBorder
    | ReinhardStyle
    | FourierStyle
    | Albumentations,
    Field(discriminator="name"),
]
