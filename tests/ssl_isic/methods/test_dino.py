"""DINO against plain lines of the paper's algorithm 1, and the rules that toy versions break."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss.dino_loss import DINOLoss
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.views import ViewsConfig
from ssl_isic.methods.dino import DINO, DINOConfig
from ssl_isic.methods.method import DataFacts, RunShape
from ssl_isic.optim import build_optimizer

K, LOCAL, STEPS_AN_EPOCH, TOTAL = 24, 3, 4, 20
Batch = dict[str, list[Tensor]]
OptimizerStep = Callable[..., None]


def build(model: str = "test_vit", seed: int = 0, **settings: Any) -> DINO:
    torch.manual_seed(seed)
    small = {"local_crops": LOCAL, "prototypes": K, "hidden_size": 32, "bottleneck_size": 16}
    config = DINOConfig(**{**small, "freeze_last_layer_epochs": 0, **settings})
    return config.build(BackboneConfig(model=model), RunShape(32, STEPS_AN_EPOCH, TOTAL))


def batch_of(images: int = 4, seed: int = 0, sizes: tuple[int, ...] = (32, 32, 16, 16, 16)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [
            torch.randint(0, 256, (images, size, size, 3), dtype=torch.uint8, generator=generator) for size in sizes
        ]
    }


def teacher_outputs(task: DINO, batch: Batch) -> list[Tensor]:
    return [task.teacher_head(task.teacher(task.normalize(view))).detach() for view in batch["views"][:2]]


def student_outputs(task: DINO, batch: Batch) -> list[Tensor]:
    return [task.student_head(task.student(task.normalize(view))) for view in batch["views"]]


def algorithm_1(
    teacher: list[Tensor], student: list[Tensor], center: Tensor, t_teacher: float, t_student: float
) -> Tensor:
    """Mean over pairs of a teacher's and another student's view of the cross-entropy of their softmaxes."""
    terms = []
    for i, teacher_BK in enumerate(teacher):
        p = torch.softmax((teacher_BK - center) / t_teacher, dim=1)
        for j, student_BK in enumerate(student):
            if i != j:
                terms.append(-(p * torch.log_softmax(student_BK / t_student, dim=1)).sum(dim=1).mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_teacher_and_student_start_identical(model: str) -> None:
    task = build(model)
    for teacher, student in ((task.teacher, task.student), (task.teacher_head, task.student_head)):
        own, other = teacher.state_dict(), student.state_dict()
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own)
        assert all(
            a.data_ptr() != b.data_ptr() for a, b in zip(teacher.parameters(), student.parameters(), strict=True)
        )


def test_two_steps_are_those_of_algorithm_1(optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]) -> None:
    """Loss, student, teacher and center; the second step uses the center and the teacher that the first one left."""
    task = build(ema=0.9, center_momentum=0.8, teacher_temperature=0.05, teacher_warmup_temperature=0.05)
    plain = build(ema=0.9, center_momentum=0.8)
    optimizer = build_optimizer("sgd", task.parameter_groups())
    center, lr = torch.zeros(K), 0.5
    oracle = plain_sgd(plain, lr)
    for step in range(2):
        batch = batch_of(seed=step)
        teacher, student = teacher_outputs(plain, batch), student_outputs(plain, batch)
        loss = algorithm_1(teacher, student, center, 0.05, 0.1)
        assert task(batch, step)["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
        task.centering.seen.clear()  # that forward was only a look

        oracle.step(loss)
        momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / (TOTAL - 1)) + 1) / 2
        with torch.no_grad():
            for name in oracle.parameters:
                slow = plain.get_parameter(name.replace("student", "teacher"))
                slow.copy_(momentum * slow + (1 - momentum) * plain.get_parameter(name))
            center = 0.8 * center + 0.2 * torch.cat(teacher).mean(dim=0)

        optimizer_step(task, optimizer, [batch], step, lr)
        torch.testing.assert_close(task.centering.center, center, rtol=1e-4, atol=1e-6)
        for name, parameter in task.named_parameters():
            torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-4, atol=1e-5)
    assert center.abs().max() > 1e-3


@pytest.mark.parametrize("locals_", [0, LOCAL])
def test_batch_norm_of_the_students_head_sees_all_views_at_once(locals_: int) -> None:
    """As in the official code, which joins the features of all resolutions before the head."""
    task = build("test_resnet", head_batch_norm=True, local_crops=locals_).train()
    seen: list[Tensor] = []
    task.student_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    task(batch_of(sizes=(32, 32, *[16] * locals_)), 0)
    assert [len(features) for features in seen] == [4 * (2 + locals_)]


def test_accumulation_moves_teacher_and_center_once_a_step_as_one_big_batch_does(optimizer_step: OptimizerStep) -> None:
    halves = [batch_of(4, seed=k) for k in range(2)]
    whole: Batch = {"views": [torch.cat(pair) for pair in zip(*(half["views"] for half in halves), strict=True)]}
    one, two = build(ema=0.5), build(ema=0.5)
    for step in range(2):
        optimizer_step(one, build_optimizer("sgd", one.parameter_groups()), [whole], step, lr=0.5)
        optimizer_step(two, build_optimizer("sgd", two.parameter_groups()), halves, step, lr=0.5)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_micro_batches_alone_move_neither_teacher_nor_center() -> None:
    task = build()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    for k in range(3):
        task(batch_of(seed=k), 0)["loss"].backward()
    assert all(torch.equal(task.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_teacher_stays_in_float32_and_moves_even_when_it_moves_little(dtype: torch.dtype) -> None:
    task = build(ema=0.9999)
    for module in (task.student, task.student_head):
        module.to(dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1.0)
    before = [p.clone() for p in task.teacher.parameters()]
    task.after_step(0)
    moved = [float((now - then).mean()) for now, then in zip(task.teacher.parameters(), before, strict=True)]
    assert {p.dtype for p in task.teacher.parameters()} == {torch.float32}
    assert moved == pytest.approx([1e-4] * len(moved), rel=0.02)


def test_no_gradient_reaches_the_teacher_and_it_is_in_no_parameter_group() -> None:
    task = build()
    task(batch_of(), 0)["loss"].backward()
    teacher = {id(p) for module in (task.teacher, task.teacher_head) for p in module.parameters()}
    assert all(p.grad is None for p in task.parameters() if id(p) in teacher)
    grouped = {id(p) for group in task.parameter_groups() for p in group["params"]}
    assert grouped == {id(p) for p in task.parameters() if p.requires_grad}
    assert not grouped & teacher
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []


def test_teacher_and_center_are_in_the_state_dict_and_restored(optimizer_step: OptimizerStep) -> None:
    task = build(ema=0.5)
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=0.5)
    saved = {name: value.clone() for name, value in task.state_dict().items()}
    assert any("center" in name for name in saved)
    other = build(seed=1, ema=0.5)
    assert other(batch_of(), 1)["loss"].item() != task(batch_of(), 1)["loss"].item()
    other.load_state_dict(saved)
    assert other.centering.center.abs().max() > 0
    assert torch.equal(other.centering.center, task.centering.center)
    assert other(batch_of(), 1)["loss"].item() == task(batch_of(), 1)["loss"].item()


@pytest.mark.parametrize("local_crops", [0, 3])
def test_terms_of_the_same_view_are_skipped(local_crops: int) -> None:
    """With one teacher's softmax for each view, 2 * (2 + local) - 2 terms remain of 2 * (2 + local)."""
    task, batch = build(local_crops=local_crops), batch_of(sizes=(32, 32, 16, 16, 16)[: 2 + local_crops])
    expected = algorithm_1(teacher_outputs(task, batch), student_outputs(task, batch), torch.zeros(K), 0.04, 0.1)
    assert task(batch, 0)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_lightlys() -> None:
    """The center of lightly's criterion moves as it is called: two calls in a row, before and after."""
    task = build(center_momentum=0.8)
    criterion = DINOLoss(K, student_temp=0.1, center_momentum=0.8)
    for step in range(2):
        batch = batch_of(seed=step)
        expected = criterion(teacher_outputs(task, batch), student_outputs(task, batch), teacher_temp=0.04)
        assert task(batch, step)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
        task.centering.after_step()
    torch.testing.assert_close(task.centering.center, criterion.center.flatten(), rtol=1e-4, atol=1e-6)


def test_sinkhorn_gives_every_prototype_its_share_and_remembers_nothing() -> None:
    task, batch = build(centering="sinkhorn", sinkhorn_iterations=50), batch_of(8)
    plain = torch.cat(teacher_outputs(task, batch)).detach() / 0.04
    scaled = torch.exp(plain.double() - plain.max())
    for _ in range(50):
        scaled = scaled / scaled.sum(dim=0)
        scaled = scaled / scaled.sum(dim=1, keepdim=True)
    student = [torch.log_softmax(view.detach() / 0.1, dim=1) for view in student_outputs(task, batch)]
    pairs = [(t, s) for t in range(2) for s in range(len(student)) if t != s]
    expected = sum(-(scaled.chunk(2)[t] * student[s]).sum(dim=1).mean() for t, s in pairs) / len(pairs)
    outputs = task(batch, 0)
    assert outputs["loss"].item() == pytest.approx(float(expected), rel=1e-4)
    assert outputs["marginal_entropy"].item() == pytest.approx(math.log(K), abs=1e-2)
    assert not any("center" in name for name in task.state_dict())


def test_each_resolution_takes_one_forward() -> None:
    task = build()
    seen: dict[str, list[tuple[int, ...]]] = {"student": [], "teacher": []}

    def count(name: str) -> Any:
        return lambda module, inputs: seen[name].append(tuple(inputs[0].shape))

    task.student.register_forward_pre_hook(count("student"))
    task.teacher.register_forward_pre_hook(count("teacher"))
    task(batch_of(images=4), 0)
    assert seen == {"student": [(8, 3, 32, 32), (12, 3, 16, 16)], "teacher": [(8, 3, 32, 32)]}


def test_the_prototypes_stand_still_in_the_first_epoch_and_move_after_it(optimizer_step: OptimizerStep) -> None:
    task = build(freeze_last_layer_epochs=1)
    optimizer = build_optimizer("adamw", task.parameter_groups())
    moved = []
    for step in range(STEPS_AN_EPOCH + 1):
        before = task.student_head.last_layer.weight_v.detach().clone()
        body = task.student_head.layers[0].weight.detach().clone()
        optimizer_step(task, optimizer, [batch_of(seed=step)], step, lr=0.01)
        moved.append(not torch.equal(before, task.student_head.last_layer.weight_v))
        assert not torch.equal(body, task.student_head.layers[0].weight)
    assert moved == [False] * STEPS_AN_EPOCH + [True]


def test_the_prototypes_keep_unit_norm(optimizer_step: OptimizerStep) -> None:
    task = build()
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=5.0)
    weight = task.student_head.last_layer
    assert weight.weight_g.flatten().tolist() == [1.0] * K


def test_the_teachers_temperature_warms_up() -> None:
    task = build(teacher_warmup_temperature=0.04, teacher_temperature=0.07, teacher_warmup_epochs=3)
    ramp = 3 * STEPS_AN_EPOCH
    values = [task.pace.temperature_at(step) for step in (0, ramp // 3, ramp - 1, ramp, TOTAL)]
    assert values == pytest.approx([0.04, 0.05, 0.07 - 0.03 / ramp, 0.07, 0.07])
    batch = batch_of()
    expected = algorithm_1(teacher_outputs(task, batch), student_outputs(task, batch), torch.zeros(K), 0.05, 0.1)
    assert task(batch, ramp // 3)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_teachers_momentum_goes_from_ema_to_1() -> None:
    task = build(ema=0.996)
    values = [task.pace.momentum_at(step) for step in range(TOTAL)]
    assert (values[0], values[-1]) == (0.996, 1.0)
    assert values == sorted(values)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    task, batch = build(), batch_of(8)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch, 0)["loss"]
        teacher = task.teacher_head(task.teacher(task.normalize(torch.cat(batch["views"][:2])))).detach()
        groups = [torch.cat(batch["views"][:2]), torch.cat(batch["views"][2:])]
        student = [task.student_head(task.student(task.normalize(group))).detach() for group in groups]
    assert teacher.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    student_views = [*student[0].float().chunk(2), *student[1].float().chunk(3)]
    expected = algorithm_1(list(teacher.float().chunk(2)), student_views, torch.zeros(K), 0.04, 0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_logged_entropy_is_that_of_the_teachers_softmax() -> None:
    task, batch = build(), batch_of()
    p = torch.softmax(torch.cat(teacher_outputs(task, batch)) / 0.04, dim=1)
    entropy = torch.distributions.Categorical(probs=p).entropy().mean()
    assert task(batch, 0)["teacher_entropy"].item() == pytest.approx(entropy.item(), rel=1e-4)


def test_the_exported_network_is_the_teacher() -> None:
    task = build()
    assert task.exported() is task.teacher
    assert isinstance(task.exported(), nn.Module)


def test_batch_norm_of_the_teacher_keeps_its_own_statistics() -> None:
    task = build("test_resnet")
    task(batch_of(seed=3), 0)
    teacher, student = (
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)) for network in (task.teacher, task.student)
    )
    assert teacher.num_batches_tracked == 1  # two global crops in one forward
    assert student.num_batches_tracked == 2  # and the local crops in another
    assert not torch.equal(teacher.running_mean, student.running_mean)


@pytest.mark.parametrize(
    ("images", "total_steps", "prototypes", "ema"),
    [(10_000, 8_000, 1024, 0.98), (400_000, 156_250, 32768, 0.9968), (400_000, 10**7, 32768, 0.9995)],
)
def test_the_defaults_follow_the_size_of_the_data(images: int, total_steps: int, prototypes: int, ema: float) -> None:
    facts = DataFacts(images, 130.0, 256, ViewsConfig(), total_steps, True, None)
    values = {default.key: default.value for default in DINOConfig().defaults(facts)}
    assert (values["method.prototypes"], values["method.ema"]) == (prototypes, pytest.approx(ema))
    assert (values["optim.name"], values["optim.lr"], values["optim.lr_batch_size"]) == ("adamw", 5e-4, None)
    assert (values["optim.weight_decay"], values["optim.end_weight_decay"]) == (0.04, 0.4)


def test_the_teacher_drops_no_path() -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(model="test_vit", drop_path=0.3)
    task = DINOConfig(prototypes=K, hidden_size=32, bottleneck_size=16).build(backbone, RunShape(32, 1, 1)).train()
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(task.teacher(images), task.teacher(images))
        assert not torch.equal(task.student(images), task.student(images))
