"""Gradients of convolutions over maps of a few pixels as matrix products, for CPUs.

The last stage of a convolutional net sees 2 x 2 pixels of a view of 64 px, and one pixel of a local crop of 32 px. There most
of the kernel lies over padding, and torch's gradients take several times as long as the products that they need
(`benchmarks/small_maps.py`). Here each tap of the kernel is one product, over the places at which it meets a pixel.

Shapes: B images, C channels in, O channels out, h x w pixels in, y x x pixels out, a kernel of i x j taps, P pairs of pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MOST_PIXELS = 4
"""Pixels of the largest output whose gradients are computed so. At 3 x 3 the two ways are about even."""
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
    """torch's convolution, without groups or dilation, whose gradients are products."""

    @staticmethod
    def forward(
        ctx: Any, pixels_BChw: Tensor, weight_OCij: Tensor, bias_O: Tensor | None, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(pixels_BChw, weight_OCij)
        ctx.geometry = geometry
        return nn.functional.conv2d(pixels_BChw, weight_OCij, bias_O, geometry.stride, geometry.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BOyx: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        pixels_BChw, weight_OCij = ctx.saved_tensors
        pixels_BhwC, gradient_ByxO = pixels_BChw.permute(0, 2, 3, 1).contiguous(), gradient_BOyx.permute(0, 2, 3, 1)
        weight_ijOC = weight_OCij.permute(2, 3, 0, 1).contiguous()
        of_pixels_BhwC, of_weight_ijOC = torch.zeros_like(pixels_BhwC), torch.zeros_like(weight_ijOC)
        for tap in ctx.geometry.taps((pixels_BhwC.shape[1], pixels_BhwC.shape[2])):
            gradient_PO = gradient_ByxO[tap.outputs].flatten(0, 2)
            met = pixels_BhwC[tap.inputs]
            of_pixels_BhwC[tap.inputs] += (gradient_PO @ weight_ijOC[tap.place]).view_as(met)
            of_weight_ijOC[tap.place] = gradient_PO.T @ met.flatten(0, 2)
        # DDP wants a gradient laid out as its weight is
        of_weight_OCij = torch.empty_like(weight_OCij).copy_(of_weight_ijOC.permute(2, 3, 0, 1))
        of_bias_O = gradient_ByxO.sum((0, 1, 2)) if ctx.needs_input_grad[2] else None
        return of_pixels_BhwC.permute(0, 3, 1, 2), of_weight_OCij, of_bias_O, None


class SmallMapConv2d(nn.Conv2d):
    """`nn.Conv2d` to the last bit, but for its gradients on a CPU where the output has few pixels.

    Those are computed faster, and differ from torch's by rounding.
    """

    def _conv_forward(self, pixels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if pixels.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return cast(Tensor, super()._conv_forward(pixels, weight, bias))
        geometry = Geometry(*(cast(Pair, pair) for pair in (self.kernel_size, self.stride, self.padding)))
        height, width = geometry.output_size((pixels.shape[-2], pixels.shape[-1]))
        if min(height, width) < 1 or height * width > MOST_PIXELS:
            return cast(Tensor, super()._conv_forward(pixels, weight, bias))
        output: Tensor = TapProducts.apply(pixels, weight, bias, geometry)
        return output


def speed_up_small_maps(model: nn.Module) -> None:
    """Make `SmallMapConv2d` of the convolutions of `model` that have such gradients. Its weights stay what they are."""
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = SmallMapConv2d


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether its kernel is small, with zeros around the image, and neither groups nor dilation."""
    small = max(convolution.kernel_size) <= WIDEST_KERNEL
    padded = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    whole = convolution.groups == 1 and convolution.dilation == (1, 1)
    return small and padded and whole
