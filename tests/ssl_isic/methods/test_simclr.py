"""SimCLR against the paper's equation 1."""

import math

import pytest
import torch
from torch import Tensor

from ssl_isic.backbones import BackboneConfig
from ssl_isic.methods.simclr import SimCLR, SimCLRConfig

Batch = dict[str, list[Tensor]]


def build(**settings: object) -> SimCLR:
    torch.manual_seed(0)
    config = SimCLRConfig(hidden_size=32, projection_size=16, **settings)
    return SimCLR(config, BackboneConfig(model="test_vit"), image_size=32)


def batch_of(images: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    }


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


def test_every_parameter_gets_a_gradient() -> None:
    task = build()
    task(batch_of(4), 0)["loss"].backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_the_exported_network_is_the_backbone_without_the_head() -> None:
    task = build()
    exported = {id(p) for p in task.exported().parameters()}
    assert exported == {id(p) for name, p in task.named_parameters() if name.startswith("backbone.")}
