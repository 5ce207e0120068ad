"""LeJEPA against plain lines of the paper's algorithms 1 and 2, and the statistic against numerical integration."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss
from scipy.integrate import quad
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.views import ViewsConfig
from ssl_isic.methods.lejepa import LeJEPA, LeJEPAConfig, epps_pulley, random_directions
from ssl_isic.methods.method import DataFacts
from ssl_isic.optim import build_optimizer

LOCAL, P, SLICES = 3, 8, 12
Batch = dict[str, list[Tensor]]
OptimizerStep = Callable[..., None]


def build(model: str = "test_vit", **settings: Any) -> LeJEPA:
    torch.manual_seed(0)
    small = {"local_crops": LOCAL, "hidden_size": 32, "projection_size": P, "slices": SLICES}
    return LeJEPA(LeJEPAConfig(**{**small, **settings}), BackboneConfig(model=model), image_size=32)


def batch_of(images: int = 4, seed: int = 0, sizes: tuple[int, ...] = (32, 32, 16, 16, 16)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [
            torch.randint(0, 256, (images, size, size, 3), dtype=torch.uint8, generator=generator) for size in sizes
        ]
    }


def embeddings(task: LeJEPA, batch: Batch) -> Tensor:
    """(V, B, P): the backbone at one resolution after the other, then the projector on all views."""
    views = batch["views"]
    groups = [torch.cat(views[:2]), torch.cat(views[2:])] if len(views) > 2 else [torch.cat(views)]
    features = torch.cat([task.backbone(task.normalize(group)) for group in groups])
    return task.head(features).reshape(len(views), -1, P)


def algorithm_1(x: Tensor, step: int) -> Tensor:
    """SIGReg of one view's embeddings (N, P): complex characteristic functions on 33 points of [-3, 3]."""
    a = torch.randn(x.shape[1], SLICES, generator=torch.Generator().manual_seed(step))
    a = a / a.norm(p=2, dim=0)
    t = torch.linspace(-3, 3, 33)
    exp_f = torch.exp(-0.5 * t**2)
    ecf = (1j * (x @ a).unsqueeze(2) * t).exp().mean(0)
    err = (ecf - exp_f).abs().square() * exp_f
    return (torch.trapz(err, t, dim=1) * len(x)).mean()


def algorithm_2(z: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Prediction and SIGReg of embeddings (V, N, P), the first two views global."""
    center = (z[0] + z[1]) / 2
    prediction = torch.stack([((center - view) ** 2).mean() for view in z]).mean()
    return prediction, torch.stack([algorithm_1(view, step) for view in z]).mean()


@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("local_crops", [0, LOCAL])
def test_the_loss_and_its_terms_are_those_of_the_paper(local_crops: int, step: int) -> None:
    task, batch = (
        build(local_crops=local_crops, sigreg_weight=0.2),
        batch_of(sizes=(32, 32, 16, 16, 16)[: 2 + local_crops]),
    )
    outputs = task(batch, step)
    prediction, sigreg = algorithm_2(embeddings(task, batch), step)
    assert outputs["prediction"].item() == pytest.approx(prediction.item(), rel=1e-4)
    assert outputs["sigreg"].item() == pytest.approx(sigreg.item(), rel=1e-4)
    assert outputs["loss"].item() == pytest.approx((0.8 * prediction + 0.2 * sigreg).item(), rel=1e-4)


def test_the_loss_is_lightlys_with_the_same_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch, step = build(), batch_of(), 3
    criterion = LeJEPALoss(sigreg_num_vectors=SLICES)
    directions = random_directions(P, SLICES, step)
    monkeypatch.setattr(criterion.sigreg, "_generate_unit_vectors", lambda *of, **named: directions)
    z = embeddings(task, batch)
    expected = criterion(local_proj=z[2:], global_proj=z[:2])
    assert task(batch, step)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_two_steps_are_those_of_the_papers_gradient(
    model: str, optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]
) -> None:
    task, plain, lr = build(model), build(model), 0.2
    optimizer, oracle = build_optimizer("sgd", task.parameter_groups()), plain_sgd(plain, lr)
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    for step in range(2):
        batch = batch_of(16, seed=step)  # with 4, batch norm makes much of the last digit
        optimizer_step(task, optimizer, [batch], step, lr)

        prediction, sigreg = algorithm_2(embeddings(plain, batch), step)
        oracle.step(0.95 * prediction + 0.05 * sigreg)
    for name, parameter in task.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-3, atol=1e-5)
    assert max((p - start[name]).abs().max().item() for name, p in task.named_parameters()) > 1e-2


@pytest.mark.parametrize("points", [17, 65])
def test_the_statistic_is_the_integral_of_its_definition(points: int) -> None:
    values = [-1.3, 0.2, 0.4, 2.5]

    def integrand(t: float) -> float:
        real = sum(math.cos(t * x) for x in values) / 4 - math.exp(-(t**2) / 2)
        imaginary = sum(math.sin(t * x) for x in values) / 4
        return (real**2 + imaginary**2) * math.exp(-(t**2) / 2)

    expected = 4 * quad(integrand, -3, 3)[0]
    assert epps_pulley(torch.tensor(values).view(1, 4, 1), points).item() == pytest.approx(expected, rel=2e-3)


def test_the_statistic_is_near_epps_and_pulleys_closed_form() -> None:
    """Over the whole line, of which [-3, 3] leaves out little: double sums of Gaussians and no integral."""
    x = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 1.5 + 0.5
    pairs = torch.exp(-((x[:, None] - x[None, :]) ** 2) / 2).sum() / len(x)
    whole_line = math.sqrt(2 * math.pi) * (pairs - math.sqrt(2) * torch.exp(-(x**2) / 4).sum() + len(x) / math.sqrt(3))
    assert epps_pulley(x.view(1, -1, 1), 17).item() == pytest.approx(whole_line.item(), rel=0.02)


def test_gaussian_embeddings_cost_the_statistics_expectation_whatever_their_number() -> None:
    """E |ecf - phi|^2 = (1 - phi^2) / N, so that N times the integral over [-3, 3] is about 1.05."""
    expected = quad(lambda t: (1 - math.exp(-(t**2))) * math.exp(-(t**2) / 2), -3, 3)[0]
    assert expected == pytest.approx(1.05, abs=0.01)
    for images in (64, 1024):
        z = torch.randn(4, images, 32, generator=torch.Generator().manual_seed(images))
        assert epps_pulley(z @ random_directions(32, 256, 0), 17).mean().item() == pytest.approx(expected, rel=0.15)


def test_a_collapsed_batch_costs_in_proportion_to_its_images() -> None:
    """All embeddings 0: N times the integral of (1 - phi)^2 phi, about 0.40 N."""
    one = quad(lambda t: (1 - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2), -3, 3)[0]
    assert one == pytest.approx(0.40, abs=0.01)
    task = build()
    nn.init.zeros_(task.head.layers[-1].weight)
    nn.init.zeros_(task.head.layers[-1].bias)
    for images in (4, 8):
        outputs = task(batch_of(images), 0)
        assert outputs["sigreg"].item() == pytest.approx(images * one, rel=1e-3)
        assert outputs["prediction"].item() == 0


def test_directions_are_unit_vectors_and_a_function_of_the_step() -> None:
    first = random_directions(16, 40, step=5)
    torch.manual_seed(123)
    assert torch.equal(random_directions(16, 40, step=5), first)
    assert not torch.equal(random_directions(16, 40, step=6), first)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(40))


def test_the_loss_neither_reads_nor_moves_the_global_generator() -> None:
    """Ranks have different global generators, and must agree on the directions."""
    task, batch = build(), batch_of()
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        losses.append(task(batch, 4)["loss"].item())
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]


def test_the_centers_carry_gradient() -> None:
    """No stop-gradient: with the local views held, the prediction still moves the global ones."""
    task, batch = build(sigreg_weight=0.0, local_crops=0), batch_of(sizes=(32, 32))
    z = embeddings(task, batch).detach().requires_grad_()
    algorithm_2(z, 0)[0].backward()
    seen: list[Tensor] = []
    task.head.register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    task(batch, 0)["loss"].backward()
    torch.testing.assert_close(seen[0].reshape(z.shape), z.grad)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    task, batch = build(head_batch_norm=False), batch_of(8)
    with torch.no_grad():
        task.head.layers[-1].weight.mul_(30)  # a spread near 1: embeddings near 0 look collapsed in any precision
    with torch.autocast("cpu", torch.bfloat16):
        outputs = task(batch, 2)
        z = embeddings(task, batch).detach()
    assert z.dtype == torch.bfloat16
    assert outputs["loss"].dtype == torch.float32
    prediction, sigreg = algorithm_2(z.float(), 2)
    assert outputs["prediction"].item() == pytest.approx(prediction.item(), rel=1e-4)
    assert outputs["sigreg"].item() == pytest.approx(sigreg.item(), rel=1e-4)


def test_each_resolution_takes_one_forward_and_the_projector_sees_all_views() -> None:
    task = build()
    seen: list[tuple[int, ...]] = []
    for network in (task.backbone, task.head):
        network.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    task(batch_of(images=4), 0)
    assert seen[:2] == [(8, 3, 32, 32), (12, 3, 16, 16)]
    assert [shape[0] for shape in seen[2:]] == [20]


def test_every_parameter_gets_a_gradient() -> None:
    task = build()
    task(batch_of(), 0)["loss"].backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []


def test_the_exported_network_is_the_backbone_without_the_projector() -> None:
    task = build()
    exported = {id(p) for p in task.exported().parameters()}
    assert exported == {id(p) for name, p in task.named_parameters() if name.startswith("backbone.")}


@pytest.mark.parametrize(("is_like_vit", "decay"), [(True, 5e-2), (False, 5e-4)])
def test_the_optimizer_is_the_authors(is_like_vit: bool, decay: float) -> None:
    facts = DataFacts(
        images=10_000,
        image_px=130.0,
        batch_size=512,
        views=ViewsConfig(),
        total_steps=100,
        is_like_vit=is_like_vit,
        optimizer=None,
    )
    values = {default.key: default.value for default in LeJEPAConfig().defaults(facts)}
    optim = {key: value for key, value in values.items() if key.startswith("optim.")}
    assert optim == {
        "optim.name": "adamw",
        "optim.end_lr": 5e-7,
        "optim.lr": 5e-4,
        "optim.lr_batch_size": None,
        "optim.weight_decay": decay,
    }
    assert values["loop.clip_norm"] is None
    assert values.get("backbone.drop_path") == (0.1 if is_like_vit else None)
