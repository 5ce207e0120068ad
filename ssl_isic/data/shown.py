"""What views show of an image at the least, from which follows at which size it may be decoded."""

from typing import Literal

from ssl_isic.data.decoding import Shown
from ssl_isic.data.steps.crop import RandomResizedCrop, Resize
from ssl_isic.data.steps.skin import SkinTone, SkinToneShift
from ssl_isic.data.steps.step import Step
from ssl_isic.data.steps.symmetries import D4, HorizontalFlip, VerticalFlip
from ssl_isic.data.views import SeededViews


def shown_by(views: SeededViews, decode: Literal["reduced", "full"]) -> tuple[Shown, ...]:
    """What `decode_rgb` may rely on when it decodes for `views`; nothing for `full`.

    Nothing either where a view does something else to the image before it is cropped or resized: the size of a blur or of a
    warp is in px, and would be another one on a reduced image. A skin tone is not: it changes each px by itself.
    """
    shown = [_shown_after(view.steps) for view in views.views]
    known = [view for view in shown if view is not None]
    return tuple(dict.fromkeys(known)) if decode == "reduced" and len(known) == len(shown) else ()


def _shown_after(steps: tuple[Step, ...]) -> Shown | None:
    for step in steps:
        if isinstance(step, RandomResizedCrop) and step.size is not None:
            narrowest, widest = step.ratio
            return Shown(step.size, step.scale[0] * min(narrowest, 1 / widest))
        if isinstance(step, Resize) and step.size is not None:
            return Shown(step.size)
        if not isinstance(step, D4 | HorizontalFlip | VerticalFlip | SkinTone | SkinToneShift):
            return None
    return None
