"""A way around a fault of oneDNN, torch's library of convolutions for CPUs.

The gradient of the weight of a strided 1 x 1 convolution of under 16 channels, channels last, is written beyond its memory:
RepVGG, MobileOne and FastViT, whose first layer has one, end in `free(): invalid next size`, or go on with what is left.
Source: https://github.com/uxlfoundation/oneDNN/issues/6035.
"""

from typing import cast

from torch import Tensor, nn

FEWEST_CHANNELS = 16
"""Channels of the first convolution that is sound, on any CPU."""


class StridedPointConv2d(nn.Conv2d):
    """`nn.Conv2d` with a kernel of one tap, which on a CPU is given only the pixels that the tap meets, and no stride."""

    def _conv_forward(self, pixels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if pixels.device.type != "cpu":
            return cast(Tensor, super()._conv_forward(pixels, weight, bias))
        down, right = self.stride
        return nn.functional.conv2d(pixels[:, :, ::down, ::right], weight, bias)


def mend_strided_points(model: nn.Module) -> None:
    """Make `StridedPointConv2d` of the convolutions of `model` that have the fault. Its weights stay what they are."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_faulty(module):
            module.__class__ = StridedPointConv2d


def _is_faulty(convolution: nn.Conv2d) -> bool:
    point = convolution.kernel_size == (1, 1) and convolution.padding == (0, 0)
    few = convolution.in_channels < FEWEST_CHANNELS and convolution.groups == 1
    return point and few and max(convolution.stride) > 1
