import copy
import pickle
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.small_maps import Geometry, SmallMapConv2d, TapProducts, speed_up_small_maps

SHAPES: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((1, 1), {"kernel_size": 3, "padding": 1}),
    ((2, 2), {"kernel_size": 3, "padding": 1}),
    ((3, 2), {"kernel_size": 3, "padding": 1}),
    ((4, 4), {"kernel_size": 3, "padding": 1, "stride": 2}),
    ((5, 6), {"kernel_size": 3, "padding": 1, "stride": 2}),
    ((5, 5), {"kernel_size": 3}),
    ((2, 3), {"kernel_size": 1}),
    ((4, 3), {"kernel_size": 1, "stride": 2}),
    ((3, 3), {"kernel_size": (1, 3), "padding": (0, 1)}),
    ((4, 5), {"kernel_size": (2, 3), "padding": (1, 0), "stride": (3, 1)}),
    ((1, 1), {"kernel_size": 3, "padding": 4}),
]


def output_and_gradients(convolution: nn.Conv2d, pixels: Tensor, weighing: Tensor) -> list[Tensor]:
    pixels = pixels.clone().requires_grad_()
    output = convolution(pixels)
    (output * weighing).sum().backward()
    return [
        output.detach(),
        *(tensor.grad for tensor in (pixels, *convolution.parameters()) if tensor.grad is not None),
    ]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "settings"), SHAPES)
def test_output_and_gradients_are_the_convolutions(
    size: tuple[int, int],
    settings: dict[str, Any],
    bias: bool,
    memory: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ssl_isic.small_maps.MOST_PIXELS", 64)
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, bias=bias, dtype=torch.float64, **settings)
    fast = copy.deepcopy(plain)
    speed_up_small_maps(fast)
    assert type(fast) is SmallMapConv2d
    pixels = torch.randn(4, 3, *size, dtype=torch.float64).contiguous(memory_format=memory)
    weighing = torch.randn_like(plain(pixels))
    expected = output_and_gradients(plain, pixels, weighing)
    results = output_and_gradients(fast, pixels, weighing)
    assert torch.equal(results[0], expected[0])
    for found, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_taps_over_the_padding_alone_are_left_out() -> None:
    def places(size: int, stride: int = 1) -> list[tuple[int, int]]:
        return [tap.place for tap in Geometry((3, 3), (stride, stride), (1, 1)).taps((size, size))]

    assert places(1) == [(1, 1)]
    assert len(places(2)) == 9
    assert places(2, stride=2) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_map_of_many_pixels_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    monkeypatch.setattr(TapProducts, "apply", lambda *inputs: computed.append(inputs[0].shape[-1]) or torch.ones(1))
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    speed_up_small_maps(convolution)
    assert convolution(torch.zeros(1, 2, 3, 3)).shape == (1, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(torch.zeros(1, 2, 2, 2)).dtype == torch.bfloat16
    assert not computed
    convolution(torch.zeros(1, 2, 2, 2))
    assert computed == [2]


def test_a_kernel_larger_than_the_image_is_torchs_error() -> None:
    convolution = nn.Conv2d(2, 2, 3)
    speed_up_small_maps(convolution)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        convolution(torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize(
    "settings",
    [
        {"groups": 2},
        {"dilation": 2},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 4, "stride": 4},
    ],
)
def test_other_convolutions_stay_what_they_are(settings: dict[str, Any]) -> None:
    convolution = nn.Conv2d(2, 2, **{"kernel_size": 3, **settings})
    speed_up_small_maps(convolution)
    assert type(convolution) is nn.Conv2d


def test_a_backbone_is_timms_and_can_be_copied() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(model="resnet10t"), image_size=32).double()
    plain = timm.create_model("resnet10t", num_classes=0).double()
    plain.load_state_dict(backbone.state_dict())
    assert any(isinstance(module, SmallMapConv2d) for module in backbone.modules())
    assert not any(isinstance(module, SmallMapConv2d) for module in plain.modules())
    pixels = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    weighing = torch.randn(6, backbone.num_features, dtype=torch.float64)  # type: ignore[call-overload]
    found = []
    for model in (plain, backbone, copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        features = model(pixels)
        (features * weighing).sum().backward()
        found.append([features, *(parameter.grad for parameter in model.parameters())])
    for others in found[1:]:
        torch.testing.assert_close(others, found[0], rtol=1e-8, atol=1e-10)
