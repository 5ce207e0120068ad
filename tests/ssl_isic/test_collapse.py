"""The collapse guard: its signs, its patience, and real runs that collapse or do not."""

import math

import pytest
import torch

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.collapse import CollapseGuard, collapse_sign
from ssl_isic.methods.diagnostics import starts_alike

K, IMAGES = 1024, 64


def row(teacher: float, marginal: float, std: float = 0.6) -> dict[str, float]:
    return {"loss": 1.0, "teacher_entropy": teacher, "marginal_entropy": marginal, "feature_std": std}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (row(0.9, 1.2), "about 3 of 1024 prototypes"),
        (row(6.931, 6.931), "tells no images apart"),
        (row(5.0, 6.5, std=0.01), "feature_std is 0.0100"),
        ({"loss": 1.0, "projection_std": 0.012}, "projection_std is 0.0120"),
        ({"loss": 0.001, "projection_std": 0.5, "projection_scale": 0.09}, "projection_scale is 0.0900, and 1 is what"),
        ({"loss": 0.1, "projection_std": 0.5, "variance": 0.94}, "variance, the penalty, is 0.940 of 0.99"),
    ],
)
def test_a_collapse_is_named(values: dict[str, float], says: str) -> None:
    sign = collapse_sign(values, K, IMAGES)
    assert sign is not None
    assert says in sign


@pytest.mark.parametrize(
    "values",
    [
        row(6.4, 6.7),  # a start
        row(5.3, 6.3),
        row(0.5, math.log(IMAGES)),  # the end of a long run: each image its own prototype
        {"loss": 8.0, "feature_std": 0.03},
        {"loss": 20.5, "projection_std": 0.8, "variance": 0.73},
        {"loss": 0.36, "projection_std": 0.96, "projection_scale": 0.75},
    ],
)
def test_a_run_that_learns_is_left_alone(values: dict[str, float]) -> None:
    assert collapse_sign(values, K, IMAGES) is None


def test_few_images_bound_what_the_mean_of_their_distributions_can_be() -> None:
    """4 images of 1 nat each cannot spread over more than ln 4 + 1 nats of 65,536 prototypes; 4,096 images can."""
    assert collapse_sign(row(1.0, 2.0), 65536, 4) is None
    assert collapse_sign(row(1.0, 2.0), 65536, 4096) is not None


def test_the_guard_waits_until_a_sign_has_stayed() -> None:
    guard = CollapseGuard("stop", K, IMAGES)
    bad, good = row(0.1, 0.2), row(6.0, 6.6)
    assert [guard.look(step, bad) is None for step in (20, 30, 40)] == [True] * 3
    seen = guard.look(60, bad)
    assert seen is not None
    assert "at step 60" in seen
    assert "since step 40" in seen
    again = CollapseGuard("stop", K, IMAGES)
    assert [again.look(step, values) for step, values in ((60, bad), (70, good), (80, bad), (90, bad))] == [None] * 4
    assert again.look(100, bad) is not None


def test_the_guard_speaks_once_of_each_collapse() -> None:
    guard = CollapseGuard("warn", K, IMAGES)
    bad, good = row(0.1, 0.2), row(6.0, 6.6)
    steps = zip((40, 60, 80, 100, 120, 140, 160), (bad, bad, bad, good, bad, bad, bad), strict=True)
    assert [step for step, values in steps if guard.look(step, values) is not None] == [60, 140]


def test_a_guard_that_knows_since_when_need_not_wait_again() -> None:
    assert CollapseGuard("stop", K, IMAGES, since=40).look(60, row(0.1, 0.2)) is not None


def test_a_guard_of_a_network_that_starts_slowly_waits_longer() -> None:
    guard = CollapseGuard("stop", K, IMAGES, quiet_steps=500)
    bad = row(6.931, 6.931, std=1e-4)
    assert [step for step in range(20, 641, 20) if guard.look(step, bad)] == [560]


@pytest.mark.parametrize(
    ("model", "alike"),
    [("vit_small_patch14_dinov2", True), ("test_vit", False), ("test_vit2", False), ("test_resnet", False)],
)
def test_a_network_with_layer_scale_and_a_class_token_starts_with_features_nearly_the_same(
    model: str, alike: bool
) -> None:
    """test_vit2 has LayerScale, and takes the mean of its patches."""
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(model=model), 56 if alike else 32)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    assert starts_alike(network, 56 if alike else 32) == alike
    assert network.training
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
