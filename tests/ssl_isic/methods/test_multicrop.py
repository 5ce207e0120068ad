"""Views of several resolutions: one forward pass each, and the features of each view alone."""

import torch
from torch import Tensor

from ssl_isic.backbones import BackboneConfig, build_backbone, normalization_of
from ssl_isic.methods.multicrop import forward_by_resolution


def test_the_features_are_those_of_each_view_alone_in_order() -> None:
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(model="test_vit"), 32)
    normalize = normalization_of(network)
    views = [torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8) for size in (32, 32, 16, 16, 16)]
    sizes: list[tuple[int, ...]] = []

    def watched(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape))
        features: Tensor = network(images)
        return features

    features = forward_by_resolution(watched, normalize, views)
    assert sizes == [(6, 3, 32, 32), (9, 3, 16, 16)]
    assert len(features) == 5
    for view, found in zip(views, features, strict=True):
        torch.testing.assert_close(found, network(normalize(view)), rtol=1e-4, atol=1e-5)
