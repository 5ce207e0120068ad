"""SimCLR against the paper's equation 1."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig
from ssl_isic.methods.simclr import SimCLR, SimCLRConfig
from ssl_isic.optim import build_optimizer

Batch = dict[str, Any]
OptimizerStep = Callable[..., None]


def build(**settings: object) -> SimCLR:
    torch.manual_seed(0)
    config = SimCLRConfig(hidden_size=32, projection_size=16, **settings)
    return SimCLR(config, BackboneConfig(model="test_vit"), image_size=32)


def batch_of(images: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    return {"views": views, "row": torch.arange(images)}


def projections(task: SimCLR, batch: Batch) -> Tensor:
    """Both views of each image, (2B, P): first all first views, then all second ones."""
    return task.head(task.backbone(task.normalize(torch.cat(batch["views"]))))


def equation_1(z: Tensor, temperature: float) -> float:
    """Chen et al. 2020: the mean over all 2N ordered positive pairs (i, j) of
    -log(exp(sim(i, j) / t) / sum over k != i of exp(sim(i, k) / t)), sim the cosine."""
    unit = [[float(v) for v in row / row.norm()] for row in z.double()]
    n = len(unit) // 2
    terms = []
    for i in range(2 * n):
        sim = [sum(a * b for a, b in zip(unit[i], unit[k], strict=True)) / temperature for k in range(2 * n)]
        j = (i + n) % (2 * n)
        terms.append(-math.log(math.exp(sim[j]) / sum(math.exp(sim[k]) for k in range(2 * n) if k != i)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("head_batch_norm", [True, False])
def test_the_loss_is_equation_1(temperature: float, head_batch_norm: bool) -> None:
    task, batch = build(temperature=temperature, head_batch_norm=head_batch_norm), batch_of(5)
    loss = task(batch, step=0)["loss"]
    with torch.no_grad():
        expected = equation_1(projections(task, batch), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_logged_similarity_is_the_mean_cosine_of_positives() -> None:
    task, batch = build(), batch_of(6)
    first, second = projections(task, batch).detach().chunk(2)
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(first, second, strict=True)]
    assert task(batch, 0)["positive_similarity"].item() == pytest.approx(sum(cosines) / 6, rel=1e-5)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    """Equation 1 of the projections that bf16 gives, to float32's precision; bf16's own would be off in the third digit."""
    task, batch = build(head_batch_norm=False), batch_of(8)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch, 0)["loss"]
        z = projections(task, batch).detach()
    assert z.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(equation_1(z, 0.1), rel=1e-5)


def test_an_image_that_is_drawn_twice_is_no_negative_of_itself() -> None:
    """Balanced by clinic, or in place of a damaged one, an image can stand in a batch twice."""
    task, batch = build(head_batch_norm=False), batch_of(4)
    twice = {**batch, "row": torch.tensor([7, 8, 9, 7])}
    z = nn.functional.normalize(projections(task, twice).detach(), dim=1)
    similar = (z @ z.T / 0.1).exp()
    same = torch.tensor([[a == b for b in [7, 8, 9, 7]] for a in [7, 8, 9, 7]]).repeat(2, 2)
    positive = similar.diagonal(4).repeat(2)
    expected = -(positive / (positive + similar.masked_fill(same, 0).sum(dim=1))).log().mean()
    outputs = task(twice, 0)
    assert outputs["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert outputs["negatives"].item() == (2 * 4 + 2 * 6 + 2 * 6 + 2 * 4) / 8
    assert task(batch, 0)["negatives"].item() == 6


def plain_loss(z: Tensor, t: float, groups: list[int], decoupled: bool) -> Tensor:
    """Equation 1 with gradients, or equation 6 of Yeh et al. 2022: no positive in the denominator. Of an anchor's
    group there is no negative."""
    n, terms = len(z) // 2, []
    for i in range(2 * n):
        sims = [torch.dot(z[i], z[k]) / z[i].norm() / z[k].norm() / t for k in range(2 * n)]
        positive = sims[(i + n) % (2 * n)]
        negatives = [sims[k] for k in range(2 * n) if groups[k % n] != groups[i % n]]
        among = negatives if decoupled else [positive, *negatives]
        terms.append(sum(sim.exp() for sim in among).log() - positive)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("loss", ["nt_xent", "dcl"])
@pytest.mark.parametrize("not_negative", ["itself", "lesion", "patient"])
def test_two_steps_are_those_of_the_papers_gradient(
    loss: str, not_negative: str, optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]
) -> None:
    """Six images of four lesions on three patients; the rows, by which an image is itself, are of other numbers."""
    task, plain = (build(loss=loss, not_negative=not_negative, temperature=0.2) for _ in range(2))
    optimizer, oracle = build_optimizer("sgd", task.parameter_groups()), plain_sgd(plain, 0.05)
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    groups = {"itself": [9, 3, 5, 7, 1, 0], "lesion": [4, 4, 6, 2, 2, 8], "patient": [1, 1, 1, 0, 0, 3]}
    for step in range(2):
        batch = batch_of(6, seed=step)
        columns = {"row": groups["itself"], "lesion": groups["lesion"], "patient": groups["patient"]}
        optimizer_step(task, optimizer, [batch | {name: torch.tensor(of) for name, of in columns.items()}], step, 0.05)
        oracle.step(plain_loss(projections(plain, batch), 0.2, groups[not_negative], decoupled=loss == "dcl"))
    for name, parameter in task.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-3, atol=1e-5)
    assert max((p - start[name]).abs().max().item() for name, p in task.named_parameters()) > 1e-3


@pytest.mark.parametrize(("not_negative", "negatives"), [("itself", 10), ("lesion", 26 / 3), ("patient", 22 / 3)])
def test_the_negatives_of_others_lesions_and_patients_are_counted(not_negative: str, negatives: float) -> None:
    """Lesions of 2, 1, 2 and 1 photographs: 8, 10, 8 and 10 views of others. Patients of 3, 2 and 1: 6, 8 and 10."""
    columns = {"lesion": torch.tensor([4, 4, 6, 2, 2, 8]), "patient": torch.tensor([1, 1, 1, 0, 0, 3])}
    outputs = build(not_negative=not_negative)(batch_of(6) | columns, 0)
    assert outputs["negatives"].item() == pytest.approx(negatives)


def test_every_parameter_gets_a_gradient() -> None:
    task = build()
    task(batch_of(4), 0)["loss"].backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_the_exported_network_is_the_backbone_without_the_head() -> None:
    task = build()
    exported = {id(p) for p in task.exported().parameters()}
    assert exported == {id(p) for name, p in task.named_parameters() if name.startswith("backbone.")}
