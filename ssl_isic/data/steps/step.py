"""What a step of a view is: settings, a draw of plain numbers, and what they do to one image or to a batch on the device.

A view is a list of steps. To add one, write a class in a module of this package and name it in the union of `__init__.py`:

    class Mirror(Step):
        '''The image upside down.'''                                  # shown in docs/views.md and in error messages

        name: Literal["mirror"] = "mirror"                            # by which a preset chooses it
        strength: float = Field(1.0, ge=0)                            # settings: typed, with limits
        '''What it is, and its unit.'''
        drawn: ClassVar = ("top",)                                    # the names of the numbers that are drawn

        def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
            return (uniform(rng, (0.0, self.strength)),)              # nothing random may happen anywhere else

        def apply(self, image: Image, parameters: Parameters) -> Image:
            (top,) = parameters                                       # uint8 in, uint8 out; never write to `image`
            return cv2.flip(image, 0)

`p`, the chance that it is taken, is every step's; its coin is tossed by `Step.sampled`, and `draw` is only called when it
falls so. A step that needs more random numbers than it can name (noise, a field of displacements) draws `sub_seed(rng)` and
lets `apply` make a generator of that. A step that keeps the size of the image may have `apply_batch` too (see `OnDevice`):
only then can it run on the device, and a test must show that it does there what `apply` does.

Shapes: `Image` is uint8 RGB (height, width, 3); B images of a batch.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from ssl_isic.config import Config

Image = NDArray[np.uint8]
Parameters = tuple[float, ...]
"""What was drawn for one image: as many numbers as `Step.drawn` has names."""
SUB_SEEDS = 2**53  # all of them are exact in float64


def _positive_and_in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("write [smallest, largest], both above 0")
    return limits


def _share_and_in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1] <= 1:
        raise ValueError("write [smallest, largest], both above 0 and 1 at most")
    return limits


Limits = Annotated[tuple[float, float], AfterValidator(_positive_and_in_order)]
"""The smallest and the largest value that is drawn, both above 0."""
Shares = Annotated[tuple[float, float], AfterValidator(_share_and_in_order)]
"""The smallest and the largest share that is drawn, above 0 and 1 at most."""


class Step(Config, ABC):
    """One step of a view. See the head of this module for how one is added."""

    p: float = Field(1.0, ge=0, le=1)
    """Chance that the step is taken."""
    drawn: ClassVar[tuple[str, ...]] = ()
    before_enlarging: ClassVar[bool] = False
    """Whether it may be taken before an enlargement that stands before it: it changes each px by itself, without a jump, or
    moves whole ones."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, height: int, width: int) -> Parameters:
        """Draw the numbers that `drawn` names, for an image of this size, px. All that is random is here."""

    @abstractmethod
    def apply(self, image: Image, parameters: Parameters) -> Image:
        """A new image, or `image` itself where nothing is to be done; it is never written to."""

    def sampled(self, rng: np.random.Generator, height: int, width: int) -> Parameters | None:
        """What `draw` drew, or None when the step is not taken."""
        if self.p < 1 and rng.random() >= self.p:
            return None
        return self.draw(rng, height, width)


@runtime_checkable
class OnDevice(Protocol):
    """A step that keeps the size of the image and can be taken on a batch of them, by torch, on any device."""

    drawn: ClassVar[tuple[str, ...]]

    def apply_batch(self, images: Tensor, parameters: Tensor) -> Tensor:
        """`apply` on each of `images`, float32 (B, 3, H, W) in 0..255, with its row of `parameters`, float32 (B, len(drawn)).

        The result is not rounded; it agrees with `apply` to within the rounding of that.
        """


def uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """A number between `limits`; several times faster than `rng.uniform`."""
    low, high = limits
    return low + (high - low) * rng.random()


def whole_number(rng: np.random.Generator, end: int) -> int:
    """A whole number from 0 to `end` - 1, all equally likely."""
    return int(end * rng.random())


def sub_seed(rng: np.random.Generator) -> float:
    """The seed of a generator that `apply` may make: a whole number, exact as a float."""
    return float(whole_number(rng, SUB_SEEDS))
