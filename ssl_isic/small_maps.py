"""Convolutions over maps of a few pixels as matrix products, for CPUs.

The last stage of a convolutional net sees 2 x 2 pixels of a view of 64 px, and one pixel of a local crop of 32 px. There most
of the kernel lies over padding, and a CPU's convolutions are at their worst: the gradient of the weights takes up to a hundred
times as long as the products it needs (`benchmarks/small_maps.py`). Here each tap of the kernel is one product, over the places
at which it meets a pixel.

Shapes: B images, C channels in, O channels out, h x w pixels in, y x x pixels out, a kernel of i x j taps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MOST_PIXELS = 9
"""Pixels of the largest output that is computed so. At 4 x 4 the two ways are about even."""
WIDEST_KERNEL = 3
"""Taps along an axis of the largest kernel that is: a product each is too many for the patches of a ViT."""

Pair = tuple[int, int]


class Tap(NamedTuple):
    """One weight's place in the kernel, and the pixels that it joins: the same number in the input and the output."""

    place: Pair
    inputs: tuple[slice, slice, slice]
    outputs: tuple[slice, slice, slice]


@dataclass(frozen=True)
class Geometry:
    """Where a kernel lies: (height, width) of the kernel, its stride, and the padding on each side, px."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def output_size(self, size: Pair) -> Pair:
        """(height, width) of the output for an input of `size`; not positive where the kernel does not fit."""
        height, width = (
            (pixels + 2 * padding - kernel) // stride + 1
            for pixels, kernel, stride, padding in zip(size, self.kernel, self.stride, self.padding, strict=True)
        )
        return height, width

    def taps(self, size: Pair) -> Iterator[Tap]:
        """The taps that meet any pixel of an input of `size`."""
        everything = slice(None)
        for row, inputs_y, outputs_y in self._meetings(0, size):
            for column, inputs_x, outputs_x in self._meetings(1, size):
                yield Tap((row, column), (everything, inputs_y, inputs_x), (everything, outputs_y, outputs_x))

    def _meetings(self, axis: int, size: Pair) -> Iterator[tuple[int, slice, slice]]:
        """Of each tap along `axis`: its number, and the inputs and outputs that it joins."""
        stride, pixels, outputs = self.stride[axis], size[axis], self.output_size(size)[axis]
        for tap in range(self.kernel[axis]):
            offset = tap - self.padding[axis]  # output n takes input n * stride + offset
            first = max(0, -(offset // stride))
            end = min(outputs, (pixels - 1 - offset) // stride + 1)
            if first < end:
                start = first * stride + offset
                yield tap, slice(start, start + (end - first - 1) * stride + 1, stride), slice(first, end)


class TapProducts(torch.autograd.Function):
    """The convolution of input_BChw with weight_OCij, without bias, groups or dilation; its output has channels last."""

    @staticmethod
    def forward(ctx: Any, input_BChw: Tensor, weight_OCij: Tensor, geometry: Geometry) -> Tensor:
        input_BhwC = input_BChw.permute(0, 2, 3, 1).contiguous()
        weight_ijCO = weight_OCij.permute(2, 3, 1, 0).contiguous()
        size = (input_BhwC.shape[1], input_BhwC.shape[2])
        output_ByxO = input_BhwC.new_zeros(len(input_BhwC), *geometry.output_size(size), len(weight_OCij))
        for tap in geometry.taps(size):
            output_ByxO[tap.outputs] += input_BhwC[tap.inputs] @ weight_ijCO[tap.place]
        ctx.save_for_backward(input_BhwC, weight_OCij)
        ctx.geometry = geometry
        return output_ByxO.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BOyx: Tensor) -> tuple[Tensor, Tensor, None]:
        input_BhwC, weight_OCij = ctx.saved_tensors
        gradient_ByxO = gradient_BOyx.permute(0, 2, 3, 1).contiguous()
        weight_ijOC = weight_OCij.permute(2, 3, 0, 1).contiguous()
        of_input_BhwC, of_weight_ijOC = torch.zeros_like(input_BhwC), torch.zeros_like(weight_ijOC)
        for tap in ctx.geometry.taps((input_BhwC.shape[1], input_BhwC.shape[2])):
            gradient_PO = gradient_ByxO[tap.outputs].flatten(0, 2)
            pixels = input_BhwC[tap.inputs]
            of_input_BhwC[tap.inputs] += (gradient_PO @ weight_ijOC[tap.place]).view_as(pixels)
            of_weight_ijOC[tap.place] = gradient_PO.T @ pixels.flatten(0, 2)
        of_weight_OCij = torch.empty_like(weight_OCij).copy_(
            of_weight_ijOC.permute(2, 3, 0, 1)
        )  # laid out as DDP asks for
        return of_input_BhwC.permute(0, 3, 1, 2), of_weight_OCij, None


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d` with its weights, faster in training on a CPU where the output has few pixels.

    Products add up in another order than torch's convolution, so that results differ by rounding. In evaluation mode
    they are torch's, to the last bit.
    """

    def _conv_forward(self, pixels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = Geometry(*(cast(Pair, pair) for pair in (self.kernel_size, self.stride, self.padding)))
        height, width = geometry.output_size((pixels.shape[-2], pixels.shape[-1]))
        elsewhere = pixels.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if not self.training or elsewhere or min(height, width) < 1 or height * width > MOST_PIXELS:
            return cast(Tensor, super()._conv_forward(pixels, weight, bias))
        output: Tensor = TapProducts.apply(pixels, weight, geometry)
        return output if bias is None else output + bias.view(-1, 1, 1)


def speed_up_small_maps(model: nn.Module) -> None:
    """Turn the convolutions of `model` that can be so computed into `SmallMapConv2d`. Its weights stay what they are."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = SmallMapConv2d


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether its kernel is small, with zeros around the image, and neither groups nor dilation."""
    small = max(convolution.kernel_size) <= WIDEST_KERNEL
    padded = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    whole = convolution.groups == 1 and convolution.dilation == (1, 1)
    return small and padded and whole
