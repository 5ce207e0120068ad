"""Views that are begun in a worker and finished on the device, in batches.

A worker takes the steps up to the last that cannot run on the device (the crop, which gives all images of a batch one size)
and draws for the others; their numbers travel beside the pixels. The draws are those of a view that is made in the worker,
in the same order, so both are the same view but for rounding.

Shapes: B images in a batch; pixels are uint8 (B, h, w, 3); D numbers are drawn for an image, over all views: for each step
that is left, 1 or 0 for whether it is taken, then its parameters.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ssl_isic.data.steps.step import OnDevice, Step
from ssl_isic.transfer import to_device

Steps = tuple[Step, ...]


def split(steps: Steps) -> tuple[Steps, Steps]:
    """The steps that a worker takes, and those after them, all of which can run on the device."""
    left = len(steps)
    while left and isinstance(steps[left - 1], OnDevice):
        left -= 1
    return steps[:left], steps[left:]


def drawn_for(steps: Steps, rng: np.random.Generator, height: int, width: int) -> list[float]:
    """The numbers of one image for `steps`, none of which changes its size."""
    numbers: list[float] = []
    for step in steps:
        parameters = step.sampled(rng, height, width)
        numbers += _absent(step) if parameters is None else [1.0, *parameters]
    return numbers


def finished(views: Sequence[Tensor], left: Sequence[Steps], drawn_B_D: Tensor) -> list[Tensor]:
    """The views of a batch, uint8 (B, h, w, 3) each, once the steps `left` of each have been taken on their device.

    `drawn_B_D` is on the CPU, so that choosing the images of a step does not wait for the device. Views that follow each
    other, of one size and with the same steps, are taken together.
    """
    ends = np.cumsum([_numbers(steps) for steps in left]).tolist()
    drawn = [drawn_B_D[:, end - _numbers(steps) : end] for end, steps in zip(ends, left, strict=True)]
    made: list[Tensor] = []
    numbered = groupby(range(len(views)), key=lambda number: (views[number].shape, left[number]))
    for (_, steps), group in numbered:
        numbers = list(group)
        pixels = torch.cat([views[number] for number in numbers])
        made += _taken(pixels, steps, torch.cat([drawn[number] for number in numbers])).chunk(len(numbers))
    return made


@torch.no_grad()
def _taken(pixels: Tensor, steps: Steps, drawn: Tensor) -> Tensor:
    images = pixels.permute(0, 3, 1, 2).float()
    for step in steps:
        assert isinstance(step, OnDevice)
        taken, parameters = drawn[:, 0] == 1, drawn[:, 1 : 1 + len(step.drawn)]
        drawn = drawn[:, 1 + len(step.drawn) :]
        rows = torch.nonzero(taken)[:, 0]
        if len(rows):
            on_device = to_device(rows, images.device)
            images[on_device] = step.apply_batch(images[on_device], parameters[rows])
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _absent(step: Step) -> list[float]:
    return [0.0] * (1 + len(step.drawn))


def _numbers(steps: Steps) -> int:
    return sum(1 + len(step.drawn) for step in steps)
