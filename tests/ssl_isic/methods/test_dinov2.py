"""DINOv2 against plain lines of its three losses, and the rules that toy versions break."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from lightly.loss.ibot_loss import IBOTPatchLoss
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, save_backbone
from ssl_isic.config import validate
from ssl_isic.data.steps.crop import RandomResizedCrop
from ssl_isic.data.views import SeededViews, ViewsConfig, dinov2_views
from ssl_isic.errors import InputError
from ssl_isic.methods.dinov2 import DINOv2, DINOv2Config, on_hidden_patches
from ssl_isic.methods.masks import block_masks, image_keys
from ssl_isic.methods.method import DataFacts, RunShape
from ssl_isic.optim import build_optimizer
from ssl_isic.pretraining import PretrainConfig

K, LOCAL, STEPS_AN_EPOCH, TOTAL, GRID = 24, 2, 4, 20, (4, 4)
T_TEACHER, T_STUDENT = 0.05, 0.1
Batch = dict[str, Any]
OptimizerStep = Callable[..., None]
HEADS = ("student_head", "student_patch_head")


def build(model: str = "test_vit", seed: int = 0, backbone: dict[str, Any] | None = None, **settings: Any) -> DINOv2:
    torch.manual_seed(seed)
    small = {"local_crops": LOCAL, "prototypes": K, "hidden_size": 32, "bottleneck_size": 16, "mask_ratio": (0.4, 0.6)}
    warm = {"teacher_temperature": T_TEACHER, "teacher_warmup_temperature": T_TEACHER, "freeze_last_layer_epochs": 0}
    config = DINOv2Config(**{**small, **warm, **settings})
    return config.build(BackboneConfig(model=model, **(backbone or {})), RunShape(64, STEPS_AN_EPOCH, TOTAL))


def batch_of(images: int = 4, seed: int = 0, local_crops: int = LOCAL) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [
            torch.randint(0, 256, (images, size, size, 3), dtype=torch.uint8, generator=generator)
            for size in (64, 64, *[32] * local_crops)
        ],
        "row": torch.arange(images) + 100 * seed,
    }


def outputs_of(task: DINOv2, batch: Batch, step: int) -> dict[str, Tensor]:
    return task(task.before_transfer(batch, step), step)  # type: ignore[no-any-return]


def hidden_patches(batch: Batch, step: int, probability: float = 0.5) -> Tensor:
    keys = torch.cat([image_keys(step, batch["row"], view) for view in range(2)])
    return block_masks(keys, GRID, probability, (0.4, 0.6)).flatten(1)


def tokens(vit: Any, images: Tensor, mask_token: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
    """What a plain ViT makes of an image of which some embedded patches are replaced by the mask token."""
    patches = vit.patch_embed(images)  # (B, h, w, D)
    if mask_token is not None and hidden is not None:
        grid = patches.shape[:3]
        patches = torch.where(hidden.reshape(grid)[..., None], mask_token.view(-1).to(patches.dtype), patches)
    return vit.norm(vit.blocks(vit.norm_pre(vit._pos_embed(patches))))


def plain_sinkhorn(outputs: Tensor) -> Tensor:
    q = torch.exp(outputs.double() / T_TEACHER).T
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(dim=1, keepdim=True) / q.shape[0]
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T.float()


def plain_koleo(features: Tensor) -> Tensor:
    """-1/n sum of log of the distance to the nearest other feature, on the sphere."""
    unit = features / features.norm(dim=1, keepdim=True)
    distances = [torch.stack([(a - b).norm() for j, b in enumerate(unit) if i != j]).min() for i, a in enumerate(unit)]
    return -torch.stack(distances).log().mean()


def terms(
    task: DINOv2, batch: Batch, hidden: Tensor, centers: tuple[Tensor, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The three losses by plain lines, and the teacher's outputs for crops and hidden patches."""
    views = [task.normalize(view) for view in batch["views"]]
    vit, teacher = task.student.vit, task.teacher
    with torch.no_grad():
        taught = tokens(teacher, torch.cat(views[:2]))
        crops = task.teacher_head(taught[:, 0]).float()
        patches = task.teacher_patch_head(taught[:, 1:][hidden]).float()
        if centers is None:
            p, p_patches = plain_sinkhorn(crops), plain_sinkhorn(patches)
        else:
            p, p_patches = (
                torch.softmax((x - c) / T_TEACHER, 1) for x, c in zip((crops, patches), centers, strict=True)
            )
    learned = tokens(vit, torch.cat(views[:2]), task.student.mask_token, hidden)
    student = list(task.student_head(learned[:, 0]).float().chunk(2))
    if len(views) > 2:
        local = tokens(vit, torch.cat(views[2:]))[:, 0]
        student += list(task.student_head(local).float().chunk(len(views) - 2))
    pairs = [
        -(p_view * torch.log_softmax(s / T_STUDENT, 1)).sum(1).mean()
        for i, p_view in enumerate(p.chunk(2))
        for j, s in enumerate(student)
        if i != j
    ]
    log_q = torch.log_softmax(task.student_patch_head(learned[:, 1:][hidden]).float() / T_STUDENT, 1)
    entropies, row, by_crop = -(p_patches * log_q).sum(1), 0, []
    for mask in hidden:
        count = int(mask.sum())
        by_crop.append(entropies[row : row + count].sum() / max(count, 1))
        row += count
    koleo = plain_koleo(learned[: len(views[0]), 0].float()) + plain_koleo(learned[len(views[0]) :, 0].float())
    return (
        {"dino": torch.stack(pairs).mean(), "ibot": torch.stack(by_crop).mean(), "koleo": koleo},
        crops,
        patches,
    )


@pytest.mark.parametrize("local_crops", [0, LOCAL])
def test_the_loss_and_its_terms_are_those_of_plain_lines(local_crops: int) -> None:
    task, batch = build(local_crops=local_crops, ibot_weight=0.7), batch_of(8, local_crops=local_crops)
    hidden = hidden_patches(batch, step=3)
    assert len(set(hidden.sum(dim=1).tolist())) > 2  # crops with different numbers of hidden patches, also none
    assert not hidden.any(dim=1).all()
    expected, _, _ = terms(task, batch, hidden)
    outputs = outputs_of(task, batch, 3)
    for name, value in expected.items():
        assert outputs[name].item() == pytest.approx(value.item(), rel=1e-4), name
    loss = expected["dino"] + 0.7 * expected["ibot"] + 0.1 * expected["koleo"]
    assert outputs["loss"].item() == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("centering", ["sinkhorn", "center"])
def test_two_steps_are_those_of_plain_lines(
    centering: Literal["sinkhorn", "center"], optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]
) -> None:
    """Student, both heads, teacher and centers; the second step uses what the first one left."""
    settings = {"ema": 0.9, "centering": centering, "center_momentum": 0.8, "layer_decay": 0.5}
    task, plain = build(**settings), build(**settings)
    optimizer, lr = build_optimizer("sgd", task.parameter_groups()), 0.1
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    oracle = plain_sgd(plain, lr, {name: scales[id(p)] for name, p in task.named_parameters() if p.requires_grad})
    centers = torch.zeros(K), torch.zeros(K)
    for step in range(2):
        batch = batch_of(seed=step)
        hidden = hidden_patches(batch, step)
        losses, crops, patches = terms(plain, batch, hidden, centers if centering == "center" else None)
        loss = losses["dino"] + losses["ibot"] + 0.1 * losses["koleo"]
        oracle.step(loss)
        momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / (TOTAL - 1)) + 1) / 2
        with torch.no_grad():
            for name in oracle.parameters:
                if name != "student.mask_token":
                    slow = plain.get_parameter(name.replace("student.vit", "teacher").replace("student", "teacher"))
                    slow.copy_(momentum * slow + (1 - momentum) * plain.get_parameter(name))
        centers = tuple(0.8 * c + 0.2 * x.mean(0) for c, x in zip(centers, (crops, patches), strict=True))  # type: ignore[assignment]
        optimizer_step(task, optimizer, [batch], step, lr)
        for name, parameter in task.named_parameters():
            torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-3, atol=1e-6)
    if centering == "center":
        torch.testing.assert_close(task.centering.center, centers[0], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(task.patch_centering.center, centers[1], rtol=1e-3, atol=1e-6)
        assert min(center.abs().max() for center in centers) > 1e-3


def test_the_loss_on_hidden_patches_is_lightlys_where_that_has_no_center_yet() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, False]])
    places = hidden.flatten().nonzero()[:, 0]
    teacher, student = (torch.randn(4, K, generator=generator) for _ in range(2))
    own = on_hidden_patches(torch.softmax(teacher / 0.04, 1), torch.log_softmax(student / 0.1, 1), hidden, places)
    theirs = IBOTPatchLoss(K)(teacher, student, hidden.view(3, 2, 2))
    assert own.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_only_hidden_patches_count_for_ibot_and_only_hidden_ones_are_replaced() -> None:
    task, batch = build(mask_probability=1.0, mask_ratio=(0.5, 0.5)), batch_of(2)
    keys = torch.cat([image_keys(0, batch["row"], view) for view in range(2)])
    hidden = block_masks(keys, GRID, 1.0, (0.5, 0.5)).flatten(1)
    assert hidden.any(dim=1).all()
    rows: list[Tensor] = []
    task.student_patch_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    task.teacher_patch_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    outputs_of(task, batch, 0)
    images = task.normalize(torch.cat(batch["views"][:2]))
    taught = task.teacher.forward_features(images)[:, 1:][hidden]  # type: ignore[operator]
    learned = tokens(task.student.vit, images, task.student.mask_token, hidden)[:, 1:][hidden]
    torch.testing.assert_close(rows[0], taught)
    torch.testing.assert_close(rows[1], learned)


def test_without_masks_the_student_is_a_plain_timm_model_at_both_resolutions() -> None:
    task = build(mask_probability=0.0)
    for view in batch_of()["views"]:
        images = task.normalize(view)
        assert torch.equal(task.student.encode(images), task.student.vit.forward_features(images))


def test_masked_patches_leave_no_parameter_without_gradient_even_where_there_are_none() -> None:
    """DDP waits for a gradient of every parameter on every rank."""
    task = build(mask_probability=0.0)
    outputs = outputs_of(task, batch_of(), 0)
    outputs["loss"].backward()
    assert outputs["ibot"].item() == 0
    assert [name for name, p in task.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any(p.grad.any() for p in task.student_patch_head.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2", "test_vit3"])  # class token, pooled patches, attention
def test_gradients_reach_all_of_the_student_and_nothing_of_the_teacher(model: str) -> None:
    task = build(model)
    outputs_of(task, batch_of(), 0)["loss"].backward()
    student = {name for name, _ in task.named_parameters() if name.startswith("student")}
    fixed = {f"{head}.last_layer.weight_g" for head in HEADS}  # prototypes have unit norm
    assert {name for name, p in task.named_parameters() if p.grad is not None} == student - fixed
    grouped = [id(p) for group in task.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in task.parameters() if p.requires_grad)
    assert all(p.ndim > 1 for group in task.parameter_groups() if group["decays"] for p in group["params"])


def test_the_two_heads_are_separate_and_teacher_and_student_start_identical() -> None:
    task = build()
    pairs = [(task.teacher, task.student.vit), (task.teacher_head, task.student_head)]
    pairs.append((task.teacher_patch_head, task.student_patch_head))
    for teacher, student in pairs:
        own, other = teacher.state_dict(), student.state_dict()
        assert own.keys() == other.keys()
        assert all(torch.equal(own[name], other[name]) for name in own)
    addresses = [p.data_ptr() for p in task.parameters()]
    assert len(set(addresses)) == len(addresses)
    first, second = task.student_head.last_layer.weight_v, task.student_patch_head.last_layer.weight_v
    assert not torch.equal(first, second)


def test_accumulation_moves_teacher_and_centers_once_a_step_as_one_big_batch_does(
    optimizer_step: OptimizerStep,
) -> None:
    """With centers and without KoLeo, whose neighbours are those of a micro-batch, as Sinkhorn-Knopp's rows are."""
    halves = [batch_of(4, seed=k) for k in range(2)]
    whole: Batch = {
        "views": [torch.cat(pair) for pair in zip(*(half["views"] for half in halves), strict=True)],
        "row": torch.cat([half["row"] for half in halves]),
    }
    settings = {"ema": 0.5, "centering": "center", "koleo_weight": 0.0}
    one, two = build(**settings), build(**settings)
    for step in range(2):
        optimizer_step(one, build_optimizer("sgd", one.parameter_groups()), [whole], step, lr=0.2)
        optimizer_step(two, build_optimizer("sgd", two.parameter_groups()), halves, step, lr=0.2)
    assert one.patch_centering.center.abs().max() > 1e-3
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("centering", ["sinkhorn", "center"])
def test_micro_batches_alone_move_neither_teacher_nor_centers(centering: str) -> None:
    task = build(centering=centering)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    for k in range(2):
        outputs_of(task, batch_of(seed=k), 0)["loss"].backward()
    assert all(torch.equal(task.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_teacher_stays_in_float32_and_moves_even_when_it_moves_little(dtype: torch.dtype) -> None:
    task = build(ema=0.9999)
    for module in (task.student, task.student_head, task.student_patch_head):
        module.to(dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(1.0)
    teachers = (task.teacher, task.teacher_head, task.teacher_patch_head)
    before = [p.clone() for module in teachers for p in module.parameters()]
    task.after_step(0)
    after = [p for module in teachers for p in module.parameters()]
    moved = [float((now - then).mean()) for now, then in zip(after, before, strict=True)]
    assert {p.dtype for p in after} == {torch.float32}
    assert moved == pytest.approx([1e-4] * len(moved), rel=0.02)


@pytest.mark.parametrize("centering", ["sinkhorn", "center"])
def test_the_state_dict_is_all_that_a_resumed_run_needs(centering: str, optimizer_step: OptimizerStep) -> None:
    settings = {"ema": 0.5, "centering": centering}
    task, other = build(**settings), build(seed=1, **settings)
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=0.2)
    saved = {name: value.clone() for name, value in task.state_dict().items()}
    assert sum("center" in name for name in saved) == (2 if centering == "center" else 0)
    assert outputs_of(other, batch_of(), 1)["loss"].item() != outputs_of(task, batch_of(), 1)["loss"].item()
    other.load_state_dict(saved)
    torch.manual_seed(5)  # masks do not come from the global generator
    expected = outputs_of(task, batch_of(), 1)["loss"].item()
    assert outputs_of(other, batch_of(), 1)["loss"].item() == expected


def test_the_losses_are_computed_in_float32_under_autocast() -> None:
    task, batch = build(), batch_of(8)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = outputs_of(task, batch, 0)
        expected, crops, _ = terms(task, batch, hidden_patches(batch, 0))
        assert task.teacher_head(torch.zeros(1, 64)).dtype == torch.bfloat16
    assert crops.dtype == torch.float32
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    for name, value in expected.items():
        assert outputs[name].item() == pytest.approx(value.item(), rel=2e-3), name


def test_koleo_of_twins_is_finite_and_so_is_its_gradient() -> None:
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    features[1] = features[0]
    features.requires_grad_()
    loss = build().koleo(features)
    loss.backward()
    assert loss.isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_twins_in_half_precision_are_finite_and_so_is_their_gradient(dtype: torch.dtype) -> None:
    task, batch = build(), batch_of(8)
    for view in batch["views"]:
        view[1] = view[0]
    with torch.autocast("cpu", dtype):
        outputs = outputs_of(task, batch, 0)
    assert outputs["koleo"] > 1, "twins cost nothing"
    outputs["loss"].backward()
    assert all(value.isfinite() for value in outputs.values())
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


def test_one_forward_a_resolution() -> None:
    task = build()
    seen: dict[str, list[tuple[int, ...]]] = {"student": [], "teacher": []}

    def count(name: str) -> Any:
        return lambda module, inputs: seen[name].append(tuple(inputs[0].shape))

    task.student.vit.patch_embed.register_forward_pre_hook(count("student"))
    task.teacher.patch_embed.register_forward_pre_hook(count("teacher"))  # type: ignore[operator,union-attr]
    outputs_of(task, batch_of(images=4), 0)
    assert seen == {"student": [(8, 3, 64, 64), (8, 3, 32, 32)], "teacher": [(8, 3, 64, 64)]}


def test_the_prototypes_of_both_heads_stand_still_in_the_first_epoch_and_move_after_it(
    optimizer_step: OptimizerStep,
) -> None:
    task = build(freeze_last_layer_epochs=0.5)
    optimizer = build_optimizer("adamw", task.parameter_groups())
    moved = []
    for step in range(3):
        before = [task.get_submodule(head).last_layer.weight_v.detach().clone() for head in HEADS]  # type: ignore[union-attr]
        body = [task.get_submodule(head).layers[0].weight.detach().clone() for head in HEADS]  # type: ignore[union-attr,index]
        optimizer_step(task, optimizer, [batch_of(seed=step)], step, lr=0.01)
        for head, then in zip(HEADS, body, strict=True):
            assert not torch.equal(then, task.get_submodule(head).layers[0].weight)  # type: ignore[union-attr,index]
        moved.append(
            [
                not torch.equal(then, task.get_submodule(head).last_layer.weight_v)  # type: ignore[union-attr]
                for head, then in zip(HEADS, before, strict=True)
            ]
        )
    assert moved == [[False] * 2, [False] * 2, [True] * 2]


def test_the_learning_rate_falls_by_layer_from_the_end() -> None:
    """The official code: decay^(depth + 1 - layer), embeddings layer 0, block i layer i + 1, the rest depth + 1."""
    task = build(layer_decay=0.9, patch_embed_lr_scale=0.2)
    names = {id(p): name for name, p in task.named_parameters()}
    scale = {names[id(p)]: group["lr_scale"] for group in task.parameter_groups() for p in group["params"]}
    for name in ("student.mask_token", "student.vit.cls_token", "student.vit.pos_embed"):
        assert scale[name] == pytest.approx(0.9**7)
    for name in ("weight", "bias"):
        assert scale[f"student.vit.patch_embed.proj.{name}"] == pytest.approx(0.2 * 0.9**7)
        assert scale[f"student.vit.norm.{name}"] == 1.0
        for block in range(6):
            assert scale[f"student.vit.blocks.{block}.mlp.fc1.{name}"] == pytest.approx(0.9 ** (6 - block))
    assert {value for name, value in scale.items() if "head" in name} == {1.0}


def test_the_teachers_temperature_and_momentum_follow_the_step() -> None:
    task = build(teacher_warmup_temperature=0.04, teacher_temperature=0.07, teacher_warmup_epochs=3, ema=0.992)
    assert [task.pace.temperature_at(step) for step in (0, 4, 12, TOTAL)] == pytest.approx([0.04, 0.05, 0.07, 0.07])
    momenta = [task.pace.momentum_at(step) for step in range(TOTAL)]
    assert (momenta[0], momenta[-1]) == (0.992, 1.0)
    assert momenta == sorted(momenta)


def test_the_logged_entropies_are_those_of_the_targets() -> None:
    task, batch = build(), batch_of()
    _, crops, patches = terms(task, batch, hidden_patches(batch, 0))
    outputs = outputs_of(task, batch, 0)
    for of_head, logits in (("", crops), ("patch_", patches)):
        p = plain_sinkhorn(logits)
        entropies = [torch.distributions.Categorical(probs=q).entropy().mean() for q in (p, p.mean(dim=0))]
        assert outputs[f"{of_head}teacher_entropy"].item() == pytest.approx(entropies[0].item(), rel=1e-4)
        assert outputs[f"{of_head}marginal_entropy"].item() == pytest.approx(entropies[1].item(), rel=1e-4)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])
def test_the_exported_network_is_the_teacher_a_plain_timm_model_bit_for_bit(
    model: str, tmp_path: Path, optimizer_step: OptimizerStep
) -> None:
    task = build(model, ema=0.5)
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=0.1)
    exported = task.exported().eval()
    assert exported is task.teacher
    save_backbone(exported, tmp_path / "backbone", 64)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'backbone'}", pretrained=True, img_size=64).eval()
    images = task.normalize(batch_of(seed=9)["views"][0])
    assert type(loaded) is type(exported)
    assert torch.equal(loaded(images), exported(images))


def test_gradient_checkpoints_change_nothing_and_the_teacher_drops_no_path() -> None:
    batch = batch_of()
    task, other = build(), build(backbone={"grad_checkpointing": True})
    for one in (task, other):
        outputs_of(one, batch, 0)["loss"].backward()
    for (name, a), (_, b) in zip(task.named_parameters(), other.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, msg=name)
    assert other.student.grad_checkpointing
    dropping = build(backbone={"drop_path": 0.3})
    rates = [
        [module.drop_prob for module in network.modules() if hasattr(module, "drop_prob")]
        for network in (dropping.student.vit, dropping.teacher)
    ]
    assert max(rates[0]) == pytest.approx(0.3)
    assert rates[1] == []


def test_what_torch_compile_may_compile_is_what_runs() -> None:
    task = build()
    blocks, ran = task.networks(), list[nn.Module]()
    for network in blocks:
        network.register_forward_hook(lambda module, *_: ran.append(module))
    outputs_of(task, batch_of(), 0)
    assert ran == [blocks[1], blocks[0], blocks[0]]  # the teacher once, the student once a resolution


def test_heads_and_mask_token_learn_while_the_student_stands_still() -> None:
    task = build()
    held = {id(parameter) for parameter in task.held_first()}
    free = {name for name, p in task.named_parameters() if p.requires_grad and id(p) not in held}
    assert {name.split(".")[0] for name in free} == {"student", "student_head", "student_patch_head"}
    assert [name for name in free if name.startswith("student.")] == ["student.mask_token"]


@pytest.mark.parametrize("model", ["resnet18", "eva02_tiny_patch14_224"])
def test_a_network_without_patches_is_refused(model: str) -> None:
    with pytest.raises(InputError) as error:
        build(model)
    assert str(error.value) == (
        f"method dinov2 masks patches and needs a plain vision transformer; backbone.model={model} is none; "
        "use for instance vit_small_patch16_224, or method.name=simclr"
    )


def test_the_papers_crops_are_dinos_at_other_scales() -> None:
    crops = crops_of(dinov2_views(ViewsConfig(preset="paper", size=224, local_size=98), 8))
    assert [crop.scale for crop in crops] == [(0.32, 1.0)] * 2 + [(0.05, 0.32)] * 8
    assert [crop.size for crop in crops] == [224] * 2 + [98] * 8
    chosen = crops_of(dinov2_views(ViewsConfig(global_scale=(0.7, 0.9), local_scale=(0.3, 0.4)), 1))
    assert [crop.scale for crop in chosen] == [(0.7, 0.9), (0.7, 0.9), (0.3, 0.4)]


def crops_of(views: SeededViews) -> list[RandomResizedCrop]:
    """The crop with which each view begins."""
    crops = [view.steps[0] for view in views.views]
    assert all(isinstance(crop, RandomResizedCrop) for crop in crops)
    return [crop for crop in crops if isinstance(crop, RandomResizedCrop)]


def test_the_defaults_are_the_official_ones_and_keys_that_exist(tmp_path: Path) -> None:
    facts = DataFacts(400_000, 130.0, 512, ViewsConfig(), 39_063, True, None)
    values = {default.key: default.value for default in DINOv2Config().defaults(facts)}
    assert values["optim.lr"] == pytest.approx(4e-3 / 2**0.5)
    assert values["optim.lr_batch_size"] is None
    emas = [
        {d.key: d.value for d in DINOv2Config().defaults(replace(facts, total_steps=n))}["method.ema"]
        for n in (10**3, 125_000, 10**7)
    ]
    assert emas == [0.98, 0.992, 0.9995]
    assert values["backbone.drop_path"] == 0.1
    assert (values["optim.weight_decay"], values["optim.end_weight_decay"]) == (0.04, 0.4)
    assert (values["method.prototypes"], values["method.teacher_warmup_epochs"]) == (32768, pytest.approx(15.0))
    tree: dict[str, Any] = {"run_dir": tmp_path, "data": {"sources": {"a": tmp_path}}, "method": {"name": "dinov2"}}
    for key, value in values.items():
        section, leaf = key.split(".")
        tree.setdefault(section, {})[leaf] = value
    assert validate(PretrainConfig, tree, "defaults").optim.lr_batch_size is None
