"""Which parameter decays, and one step of each optimizer computed by hand."""

from typing import Literal

import lightly.utils.lars
import pytest
import torch
from torch import nn

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.loop import schedules_of
from ssl_isic.optim import OptimConfig, build_optimizer, parameter_groups, standing_still

LR, DECAY, BETA1, BETA2, EPS, MOMENTUM, TRUST = 0.1, 0.01, 0.9, 0.999, 1e-8, 0.9, 0.001


@pytest.mark.parametrize("model", ["convnext_atto", "test_vit", "test_resnet", "test_vit3"])
def test_only_matrices_decay_and_every_trainable_parameter_is_in_one_group(model: str) -> None:
    network = build_backbone(BackboneConfig(model=model), 32)
    frozen = next(network.parameters()).requires_grad_(False)
    groups = {
        group["decays"]: {id(p) for p in group["params"]} for group in parameter_groups(network.parameters(), 0.5)
    }
    assert all(group["lr_scale"] == 0.5 for group in parameter_groups(network.parameters(), 0.5))
    names = {id(p): name for name, p in network.named_parameters()}
    assert not groups[True] & groups[False]
    assert groups[True] | groups[False] == names.keys() - {id(frozen)}
    plain = {names[key] for key in groups[False]}
    expected = {name for name, p in network.named_parameters() if p.ndim <= 1 and p is not frozen}
    assert plain == expected
    assert any("bias" in name for name in plain)
    if model in ("convnext_atto", "test_vit3"):  # these have LayerScale
        assert any("gamma" in name for name in plain)


@pytest.mark.parametrize(("name", "fused"), [("adamw", False), ("adamw", True), ("sgd", False), ("lars", False)])
def test_two_steps_by_hand(name: Literal["adamw", "sgd", "lars"], fused: bool) -> None:
    torch.manual_seed(0)
    matrix, bias = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))
    by_hand = {True: matrix.detach().clone(), False: bias.detach().clone()}
    optimizer = build_optimizer(name, parameter_groups([matrix, bias]), fused=fused)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = LR, DECAY if group["decays"] else 0.0
    state: dict[tuple[bool, str], torch.Tensor] = {}
    for step in (1, 2):
        for decays, parameter in ((True, matrix), (False, bias)):
            gradient = torch.randn_like(parameter)
            parameter.grad = gradient.clone()
            w = by_hand[decays]
            decay = DECAY if decays else 0.0
            if name == "adamw":
                m = state[decays, "m"] = BETA1 * state.get((decays, "m"), 0 * w) + (1 - BETA1) * gradient
                v = state[decays, "v"] = BETA2 * state.get((decays, "v"), 0 * w) + (1 - BETA2) * gradient**2
                w = w - LR * decay * w
                w = w - LR * (m / (1 - BETA1**step)) / ((v / (1 - BETA2**step)).sqrt() + EPS)
            else:
                if name == "lars" and decays:
                    rate = TRUST * w.norm() / (gradient.norm() + DECAY * w.norm())
                else:
                    rate = torch.tensor(1.0)
                update = rate * (gradient + decay * w)
                m = state[decays, "m"] = MOMENTUM * state.get((decays, "m"), 0 * w) + update
                w = w - LR * m
            by_hand[decays] = w
        optimizer.step()
        torch.testing.assert_close(matrix.detach(), by_hand[True])
        torch.testing.assert_close(bias.detach(), by_hand[False])


def test_lars_is_lightlys_but_for_weights_that_decay_by_nothing() -> None:
    """Over five steps, one weight without gradients, one of zeros, one whose gradient is zeros."""
    torch.manual_seed(0)
    start = [torch.randn(4, 3), torch.zeros(2, 2), torch.randn(3, 3), torch.randn(2, 5), torch.randn(6)]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimizers = [
        build_optimizer("lars", parameter_groups(ours)),
        lightly.utils.lars.LARS(parameter_groups(theirs), lr=0.0, momentum=0.9),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = LR, DECAY if group["decays"] else 0.0
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            gradient = None if mine.shape == (3, 3) else torch.randn_like(mine) * (mine.shape != (2, 5))
            mine.grad, other.grad = gradient, None if gradient is None else gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    matrix = nn.Parameter(start[0].clone())
    optimizer = build_optimizer("lars", parameter_groups([matrix]))
    optimizer.param_groups[0]["lr"], matrix.grad = 1.0, torch.randn(4, 3)
    optimizer.step()
    assert (matrix - start[0]).norm().item() == pytest.approx(TRUST * start[0].norm().item(), rel=1e-4)


def test_the_learning_rate_grows_with_the_batch_and_the_decay_with_time() -> None:
    config = OptimConfig(lr=5e-4, warmup_epochs=2, weight_decay=0.04, end_weight_decay=0.4, end_lr=1e-6)
    schedules = schedules_of(config, batch_size=512, total_steps=100, steps_an_epoch=10)
    assert schedules.lr(19, 0) == pytest.approx(1e-3)
    assert schedules.lr(9, 0) == pytest.approx(5e-4)
    assert schedules.lr(99, 0) == pytest.approx(1e-6)
    assert (schedules.weight_decay(0), schedules.weight_decay(99)) == pytest.approx((0.04, 0.4))
    unscaled = OptimConfig(lr=5e-4, lr_batch_size=None)
    assert unscaled.peak_lr(4096) == 5e-4
    assert schedules_of(unscaled, 512, 100, 10).weight_decay(77) == 0.04


def test_a_short_run_warms_up_for_half_of_its_steps_at_most() -> None:
    schedules = schedules_of(
        OptimConfig(lr=1, warmup_epochs=10, lr_batch_size=None), 8, total_steps=10, steps_an_epoch=5
    )
    assert max(range(10), key=lambda step: schedules.lr(step, 0)) in (4, 5)
    assert schedules.lr(4, 0) == 1.0


def test_what_stood_still_warms_up_when_it_begins() -> None:
    """10 steps an epoch, 2 epochs of warm-up, the network held for one: its rate at step 10 is what the head had at 0."""
    schedules = schedules_of(OptimConfig(lr=1, lr_batch_size=None, warmup_epochs=2, end_lr=0.1), 8, 100, 10)
    assert [schedules.lr(step, 10) for step in (10, 11, 29)] == pytest.approx([0.05, 0.1, 1.0])
    assert schedules.lr(99, 10) == pytest.approx(0.1)
    long = schedules_of(OptimConfig(lr=1, lr_batch_size=None, warmup_epochs=2), 8, 20, 10)
    assert max(long.lr(step, 18) for step in range(18, 20)) == 1.0, "two steps are left: half of them warm up"


def test_parameters_that_stand_still_are_groups_of_their_own() -> None:
    backbone, head = nn.Linear(2, 2), nn.Linear(2, 1)
    groups = parameter_groups([*backbone.parameters(), *head.parameters()])
    divided = standing_still(groups, backbone.parameters(), 7)
    assert [(group["stands_still"], group["decays"], len(group["params"])) for group in divided] == [
        (0, True, 1),
        (7, True, 1),
        (0, False, 1),
        (7, False, 1),
    ]
    assert divided[1]["params"][0] is backbone.weight
    whole = standing_still(groups, backbone.parameters(), 0)
    assert [(group["stands_still"], len(group["params"])) for group in whole] == [(0, 2), (0, 2)]
