"""Strided 1 x 1 convolutions of few channels: torch's numbers, without the writes beyond memory that oneDNN makes for them."""

import copy

import pytest
import torch
from torch import nn

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.strided_points import StridedPointConv2d, mend_strided_points


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("stride", "size"), [(2, (8, 8)), (2, (7, 5)), (3, (8, 7)), ((1, 2), (4, 4))])
def test_output_and_gradients_are_the_convolutions(
    stride: int | tuple[int, int], size: tuple[int, int], bias: bool
) -> None:
    """In float64 and channels first, where oneDNN has no part."""
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 1, stride=stride, bias=bias, dtype=torch.float64)
    mended = copy.deepcopy(plain)
    mend_strided_points(mended)
    assert type(mended) is StridedPointConv2d
    pixels = torch.randn(4, 3, *size, dtype=torch.float64)
    of_pixels = []
    for convolution in (plain, mended):
        shown = pixels.clone().requires_grad_()
        convolution(shown).square().sum().backward()
        of_pixels.append((convolution(shown), shown.grad, *(parameter.grad for parameter in convolution.parameters())))
    for found, wanted in zip(*reversed(of_pixels), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    "settings", [{"stride": 1}, {"padding": 1}, {"kernel_size": 3}, {"in_channels": 16}, {"groups": 3}], ids=str
)
def test_sound_convolutions_are_left_alone(settings: dict[str, int]) -> None:
    sound = nn.Conv2d(**{"in_channels": 3, "out_channels": 48, "kernel_size": 1, "stride": 2, **settings})
    mend_strided_points(sound)
    assert type(sound) is nn.Conv2d


def test_with_channels_last_the_gradient_is_sound() -> None:
    """The shape at which, plain, the process ends."""
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 48, 1, stride=2, bias=False)
    mended = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    mend_strided_points(mended)
    pixels = torch.randn(8, 3, 224, 224)
    plain.double()(pixels.double()).square().sum().backward()
    for _ in range(3):
        mended.zero_grad()
        mended(pixels).square().sum().backward()
        torch.testing.assert_close(mended.weight.grad, plain.weight.grad.float(), rtol=1e-4, atol=1.0)  # type: ignore[union-attr]


def test_the_first_layer_of_a_repvgg_is_mended() -> None:
    network = build_backbone(BackboneConfig(model="repvgg_a0"), 32)
    mended = [module for module in network.modules() if isinstance(module, StridedPointConv2d)]
    assert [module.in_channels for module in mended] == [3]
