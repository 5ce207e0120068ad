"""The losses against the papers' formulas, torch and torchvision."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from finetune.losses import BCEConfig, FocalConfig, classification_loss, focal_loss, weighted_bce


@pytest.fixture
def logits() -> Tensor:
    return torch.linspace(-6, 6, 25, dtype=torch.float64)


@pytest.fixture
def hard() -> Tensor:
    return (torch.arange(25) % 3 == 0).double()


def test_focal_is_the_papers_formula(logits: Tensor, hard: Tensor) -> None:
    alpha, gamma = 0.25, 2.0
    for logit, target, loss in zip(logits, hard, focal_loss(logits, hard, alpha, gamma), strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_t = p if target == 1 else 1 - p
        alpha_t = alpha if target == 1 else 1 - alpha
        assert loss.item() == pytest.approx(-alpha_t * (1 - p_t) ** gamma * math.log(p_t), rel=1e-12)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.9, 1.0), (0.5, 0.0), (0.75, 0.5)])
def test_focal_equals_torchvisions_for_hard_targets(logits: Tensor, hard: Tensor, alpha: float, gamma: float) -> None:
    theirs = sigmoid_focal_loss(logits, hard, alpha=alpha, gamma=gamma)
    assert torch.allclose(focal_loss(logits, hard, alpha, gamma), theirs, rtol=1e-10, atol=0)


def test_focal_without_focus_is_half_of_cross_entropy(logits: Tensor) -> None:
    soft = torch.linspace(0, 1, 25, dtype=torch.float64)
    bce = binary_cross_entropy_with_logits(logits, soft, reduction="none")
    assert torch.allclose(focal_loss(logits, soft, alpha=0.5, gamma=0.0), bce / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("positive_weight", [0.3, 1.0, 20.0])
def test_weighted_bce_equals_torchs(logits: Tensor, hard: Tensor, positive_weight: float) -> None:
    for target in (hard, torch.linspace(0, 1, 25, dtype=torch.float64)):
        theirs = binary_cross_entropy_with_logits(
            logits, target, pos_weight=torch.tensor(positive_weight, dtype=torch.float64), reduction="none"
        )
        assert torch.allclose(weighted_bce(logits, target, positive_weight), theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("config", [FocalConfig(alpha=0.3, gamma=1.5), BCEConfig(positive_weight=4.0)])
def test_a_soft_target_mixes_the_two_hard_ones(logits: Tensor, config: FocalConfig | BCEConfig) -> None:
    def losses(target: float, logit: Tensor) -> Tensor:
        return classification_loss(config, logit[None], torch.tensor([target]), torch.ones(1))

    for logit in logits:
        mixed = 0.7 * losses(0.0, logit) + 0.3 * losses(1.0, logit)
        assert losses(0.3, logit).item() == pytest.approx(mixed.item(), rel=1e-6)


@pytest.mark.parametrize("config", [FocalConfig(), FocalConfig(gamma=0.5), BCEConfig(positive_weight=10.0)])
def test_extreme_logits_in_float32_give_finite_losses_and_gradients(config: FocalConfig | BCEConfig) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4, 0.0], requires_grad=True)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5])
    loss = classification_loss(config, logits, target, torch.ones(5))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0] == logits.grad[3] == 0, "a certain and right answer has nothing to learn"
    assert logits.grad[1] < 0 < logits.grad[2], "a certain and wrong one is pulled back"


@pytest.mark.parametrize("config", [FocalConfig(), BCEConfig()])
def test_weights_multiply_each_samples_loss(config: FocalConfig | BCEConfig) -> None:
    logits, target = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([1.0, 0.0, 0.4])
    alone = [classification_loss(config, logits[i : i + 1], target[i : i + 1], torch.ones(1)).item() for i in range(3)]
    weight = torch.tensor([1.0, 0.0, 0.5])
    expected = (1.0 * alone[0] + 0.0 * alone[1] + 0.5 * alone[2]) / 3
    assert classification_loss(config, logits, target, weight).item() == pytest.approx(expected, rel=1e-6)
