"""Diagnostics against cases worked out by hand."""

import math

import pytest
import torch

from ssl_isic.methods.diagnostics import feature_std, prototype_entropies

K = 8


def test_feature_std_is_0_for_collapse_and_1_for_isotropic_features() -> None:
    generator = torch.Generator().manual_seed(0)
    assert feature_std(torch.ones(64, 32) * torch.rand(64, 1, generator=generator)).item() == pytest.approx(0, abs=1e-6)
    assert feature_std(torch.randn(4096, 32, generator=generator)).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("p_BK", "each", "mean"),
    [
        (torch.full((5, K), 1 / K), math.log(K), math.log(K)),  # every image spread over all prototypes
        (torch.eye(K)[:1].repeat(5, 1), 0.0, 0.0),  # all images on one prototype
        (torch.eye(K), 0.0, math.log(K)),  # a prototype for each image
        (torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]), math.log(2), math.log(4)),
    ],
)
def test_prototype_entropies(p_BK: torch.Tensor, each: float, mean: float) -> None:
    entropies = [value.item() for value in prototype_entropies(p_BK)]
    assert entropies == pytest.approx([each, mean], abs=1e-6)


def test_of_no_rows_entropies_are_nothing() -> None:
    assert [value.item() for value in prototype_entropies(torch.empty(0, 8))] == [0, 0]
