"""VICReg against the paper's equations, in loops, and against lightly's loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss.vicreg_loss import VICRegLoss
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.views import ViewsConfig
from ssl_isic.methods.method import DataFacts
from ssl_isic.methods.vicreg import VICReg, VICRegConfig, covariance_term, variance_term
from ssl_isic.optim import build_optimizer

Batch = dict[str, list[Tensor]]
OptimizerStep = Callable[..., None]


def build(model: str = "test_vit", **settings: Any) -> VICReg:
    torch.manual_seed(0)
    config = VICRegConfig(**{"hidden_size": 32, "projection_size": 16, **settings})
    return VICReg(config, BackboneConfig(model=model), image_size=32)


def batch_of(images: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    }


def projections(task: VICReg, batch: Batch) -> tuple[Tensor, Tensor]:
    first, second = task.head(task.backbone(task.normalize(torch.cat(batch["views"])))).chunk(2)
    return first, second


def terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance of Bardes et al. 2022, equations 1 to 5, dimension by dimension, the first over
    the dimensions and the second over the views as in the official code."""
    n, d = first.shape
    invariance = sum(((first[i] - second[i]) ** 2).sum() for i in range(n)) / (n * d)
    variance, covariance = torch.zeros(()), torch.zeros(())
    for z in (first, second):
        mean = z.sum(dim=0) / n
        for j in range(d):
            deviation = torch.sqrt(((z[:, j] - mean[j]) ** 2).sum() / (n - 1) + 1e-4)
            variance = variance + torch.clamp(1 - deviation, min=0) / d / 2
            for k in range(d):
                if k != j:
                    c = ((z[:, j] - mean[j]) * (z[:, k] - mean[k])).sum() / (n - 1)
                    covariance = covariance + c**2 / d
    return invariance, variance, covariance


@pytest.mark.parametrize("projection_size", [16, 5, 3])
def test_the_loss_and_its_terms_are_those_of_the_paper(projection_size: int) -> None:
    weights = {"invariance_weight": 3, "variance_weight": 5, "covariance_weight": 7}
    task, batch = build(projection_size=projection_size, **weights), batch_of(5)
    outputs = task(batch, step=0)
    invariance, variance, covariance = terms(*projections(task, batch))
    assert outputs["invariance"].item() == pytest.approx(invariance.item(), rel=1e-4)
    assert outputs["variance"].item() == pytest.approx(variance.item(), rel=1e-4)
    assert outputs["covariance"].item() == pytest.approx(covariance.item(), rel=1e-4)
    assert outputs["loss"].item() == pytest.approx((3 * invariance + 5 * variance + 7 * covariance).item(), rel=1e-4)


def test_the_loss_is_lightlys() -> None:
    task, batch = build(), batch_of(6)
    expected = VICRegLoss()(*projections(task, batch))
    assert task(batch, 0)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_two_steps_are_those_of_the_papers_gradient(
    model: str, optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]
) -> None:
    task, plain, lr = build(model), build(model), 0.05
    optimizer, oracle = build_optimizer("sgd", task.parameter_groups()), plain_sgd(plain, lr)
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    for step in range(2):
        batch = batch_of(6, seed=step)
        optimizer_step(task, optimizer, [batch], step, lr)

        invariance, variance, covariance = terms(*projections(plain, batch))
        oracle.step(25 * invariance + 25 * variance + covariance)
    for name, parameter in task.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-3, atol=1e-5)
    assert max((p - start[name]).abs().max().item() for name, p in task.named_parameters()) > 1e-2


def test_a_collapsed_batch_pays_the_full_variance_penalty() -> None:
    """A deviation of sqrt(1e-4) = 0.01 leaves 0.99 of the hinge, and nothing else."""
    task = build()
    nn.init.zeros_(task.head.layers[-1].weight)
    outputs = task(batch_of(4), 0)
    values = [outputs[name].item() for name in ("invariance", "variance", "covariance", "loss")]
    assert values == pytest.approx([0, 0.99, 0, 25 * 0.99], abs=1e-5)


def test_terms_by_hand() -> None:
    """Columns of variance 2 and 8 and covariance 4: no hinge, and 4^2 once for each of the two orders, over 2 dimensions."""
    z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]) + torch.tensor([5.0, -3.0])
    assert variance_term(z).item() == 0
    assert covariance_term(z).item() == pytest.approx(2 * 4**2 / 2)
    assert variance_term(z / 4).item() == pytest.approx(
        np.mean([1 - (2 / 16 + 1e-4) ** 0.5, 1 - (8 / 16 + 1e-4) ** 0.5])
    )


def test_white_noise_costs_next_to_nothing() -> None:
    z = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    assert variance_term(z).item() < 0.01
    assert covariance_term(z).item() == pytest.approx(7 / 20_000, rel=0.5)  # 7 others, each squared covariance 1 / N


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    task, batch = build(head_batch_norm=False), batch_of(8)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = task(batch, 0)
        first, second = projections(task, batch)
    assert first.dtype == torch.bfloat16
    assert outputs["loss"].dtype == torch.float32
    expected = terms(first.detach().float(), second.detach().float())
    for name, value in zip(("invariance", "variance", "covariance"), expected, strict=True):
        assert outputs[name].item() == pytest.approx(value.item(), rel=1e-4)


def test_both_views_take_one_forward() -> None:
    task = build()
    seen: list[tuple[int, ...]] = []
    task.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    task(batch_of(4), 0)
    assert seen == [(8, 3, 32, 32)]


def test_every_parameter_gets_a_gradient_that_is_not_zero() -> None:
    task = build()
    task(batch_of(4), 0)["loss"].backward()
    assert [name for name, p in task.head.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_the_expander_has_three_layers_and_the_last_has_neither_bias_nor_norm() -> None:
    kinds = [type(layer).__name__ for layer in build().head.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert build().head.layers[-1].bias is None


def test_the_exported_network_is_the_backbone_without_the_expander() -> None:
    task = build()
    exported = {id(p) for p in task.exported().parameters()}
    assert exported == {id(p) for name, p in task.named_parameters() if name.startswith("backbone.")}


@pytest.mark.parametrize(
    ("batch_size", "is_like_vit", "optimizer", "expected"),
    [
        (512, False, None, ("lars", 0.4, 1e-6)),
        (384, False, None, ("adamw", 7.5e-4, 0.01)),
        (2048, True, None, ("adamw", 1e-3, 0.01)),
        (64, False, "lars", ("lars", 0.05, 1e-6)),
        (2048, False, "adamw", ("adamw", 1e-3, 0.01)),
        (2048, False, "sgd", ("lars", 1.6, 1e-6)),
    ],
)
def test_the_optimizer_follows_from_batch_and_backbone(
    batch_size: int, is_like_vit: bool, optimizer: str | None, expected: tuple[str, float, float]
) -> None:
    facts = DataFacts(
        images=10_000,
        image_px=130.0,
        batch_size=batch_size,
        views=ViewsConfig(),
        total_steps=100,
        is_like_vit=is_like_vit,
        optimizer=optimizer,
    )
    values = {default.key: default.value for default in VICRegConfig().defaults(facts)}
    assert (values["optim.name"], values["optim.lr"], values["optim.weight_decay"]) == expected
    assert values["optim.lr_batch_size"] is None
