"""The contrastive loss against plain loops over the papers' equations, and against lightly's."""

import math

import pytest
import torch
from lightly.loss.dcl_loss import DCLLoss
from lightly.loss.ntx_ent_loss import NTXentLoss
from torch import Tensor

from ssl_isic.methods.contrast import contrastive_loss

IMAGES, WIDTH, T = 6, 5, 0.2
GROUPS = torch.tensor([0.0, 0.0, 1.0, 2.0, 1.0, 1.0])


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, IMAGES, WIDTH, generator=generator, dtype=torch.float64)
    return first.requires_grad_(), second.requires_grad_()


def plain(first: Tensor, second: Tensor, decoupled: bool, groups: list[float]) -> tuple[float, float]:
    """Equation 1 of SimCLR, 6 of DCL: the mean over anchors, and the mean number of negatives."""
    z = [[float(v) for v in row / row.norm()] for row in torch.cat([first, second]).detach()]
    losses, counts = [], []
    for i, anchor in enumerate(z):
        partner = (i + IMAGES) % (2 * IMAGES)
        similarity = [sum(a * b for a, b in zip(anchor, other, strict=True)) / T for other in z]
        negatives = [k for k in range(2 * IMAGES) if groups[k % IMAGES] != groups[i % IMAGES]]
        terms = [math.exp(similarity[k]) for k in negatives]
        if not decoupled:
            terms.append(math.exp(similarity[partner]))
        losses.append((math.log(sum(terms)) if terms else 0.0) - similarity[partner])
        counts.append(len(negatives))
    return sum(losses) / len(losses), sum(counts) / len(counts)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("groups", [torch.arange(IMAGES).float(), GROUPS])
def test_loss_and_number_of_negatives_are_those_of_the_equation(decoupled: bool, groups: Tensor) -> None:
    first, second = views()
    contrast = contrastive_loss(first, second, T, groups, decoupled=decoupled)
    loss, negatives = plain(first, second, decoupled, groups.tolist())
    assert contrast.loss.item() == pytest.approx(loss, rel=1e-9)
    assert contrast.negatives.item() == pytest.approx(negatives)


@pytest.mark.parametrize(("decoupled", "theirs"), [(False, NTXentLoss(T)), (True, DCLLoss(T))])
def test_without_groups_loss_and_gradient_are_lightlys(decoupled: bool, theirs: torch.nn.Module) -> None:
    ours, other = views(), views()
    contrastive_loss(*ours, T, torch.arange(IMAGES), decoupled=decoupled).loss.backward()
    theirs(*other).backward()
    for own, their in zip(ours, other, strict=True):
        torch.testing.assert_close(own.grad, their.grad)


def test_two_images_of_one_group_do_not_repel_each_other() -> None:
    for groups, repel in (([0.0, 0.0], False), ([0.0, 1.0], True)):
        first, second = (view.detach()[:2].requires_grad_() for view in views())
        contrastive_loss(first, second, T, torch.tensor(groups)).loss.backward()
        assert bool(first.grad.abs().sum() > 1e-6) is repel


@pytest.mark.parametrize("decoupled", [False, True])
def test_an_anchor_without_negatives_is_only_drawn_to_its_positive(decoupled: bool) -> None:
    first, second = views()
    contrast = contrastive_loss(first, second, T, torch.zeros(IMAGES), decoupled=decoupled)
    alike = torch.nn.functional.cosine_similarity(first, second).mean().item()
    assert contrast.loss.item() == pytest.approx(-alike / T if decoupled else 0.0, abs=1e-9)
    assert contrast.negatives.item() == 0
    contrast.loss.backward()
    assert torch.isfinite(first.grad).all()
