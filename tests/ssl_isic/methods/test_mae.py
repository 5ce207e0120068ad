"""MAE against plain lines of the paper: what is hidden, what is painted, and what is left of it afterwards."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, save_backbone
from ssl_isic.config import validate
from ssl_isic.data.steps.crop import RandomResizedCrop
from ssl_isic.data.steps.symmetries import D4, HorizontalFlip
from ssl_isic.data.views import ViewsConfig, mae_view
from ssl_isic.errors import InputError
from ssl_isic.methods.mae import MAE, MAEConfig, sine_cosine_positions
from ssl_isic.methods.masks import image_keys, random_order
from ssl_isic.methods.method import DataFacts
from ssl_isic.optim import build_optimizer
from ssl_isic.pretraining import PretrainConfig

SIZE, PATCH, PATCHES, VISIBLE = 64, 16, 16, 4
Batch = dict[str, Any]
OptimizerStep = Callable[..., None]


def build(model: str = "test_vit", seed: int = 0, backbone: dict[str, Any] | None = None, **settings: Any) -> MAE:
    torch.manual_seed(seed)
    config = MAEConfig(**{"decoder_depth": 2, "decoder_width": 64, **settings})
    return MAE(config, BackboneConfig(model=model, **(backbone or {})), SIZE)


def batch_of(images: int = 4, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    return {"views": [pixels], "row": torch.arange(images) + 100 * seed}


def encoded(task: MAE, images: Tensor, visible: Tensor) -> Tensor:
    """The plain ViT on the visible patches of each image: all patches get their positions, then the hidden ones go."""
    vit = task.encoder.vit
    tokens = vit._pos_embed(vit.patch_embed(images))
    prefix = vit.num_prefix_tokens
    kept = [
        torch.cat([one[:prefix], torch.stack([one[prefix + int(patch)] for patch in patches])])
        for one, patches in zip(tokens, visible, strict=True)
    ]
    return vit.fc_norm(vit.norm(vit.blocks(vit.norm_pre(torch.stack(kept)))))


def painted(task: MAE, tokens: Tensor, visible: Tensor) -> Tensor:
    """The decoder: a mask token wherever no token of the encoder is, positions, blocks, pixels."""
    decoder, prefix = task.decoder, task.encoder.vit.num_prefix_tokens
    rows = []
    for one, patches in zip(decoder.embed(tokens), visible, strict=True):
        places = {int(patch): one[prefix + k] for k, patch in enumerate(patches)}
        row = [places.get(patch, decoder.mask_token[0, 0].to(one.dtype)) for patch in range(PATCHES)]
        rows.append(torch.cat([one[:prefix], torch.stack(row)]))
    return decoder.paint(decoder.norm(decoder.blocks(torch.stack(rows) + decoder.positions)))[:, prefix:]


def section_4_1(paint: Tensor, images: Tensor, visible: Tensor) -> Tensor:
    """Mean squared error on hidden patches, each patch's pixels normalised by their own mean and standard deviation."""
    errors = []
    for k, image in enumerate(images):
        for patch in range(PATCHES):
            if patch not in visible[k].tolist():
                y, x = PATCH * (patch // 4), PATCH * (patch % 4)
                pixels = image[:, y : y + PATCH, x : x + PATCH].permute(1, 2, 0).flatten()
                target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
                errors.append(((paint[k, patch] - target) ** 2).mean())
    assert len(errors) == len(images) * (PATCHES - visible.shape[1])
    return torch.stack(errors).mean()


def plain_loss(task: MAE, batch: Batch, step: int, visible_patches: int = VISIBLE) -> Tensor:
    images = task.normalize(batch["views"][0])
    visible = random_order(image_keys(step, batch["row"]), PATCHES)[:, :visible_patches]
    return section_4_1(painted(task, encoded(task, images, visible), visible), images, visible)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])  # a class token; a register token, and pooled patches
@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 4), (0.5, 8)])
def test_the_loss_is_the_papers(model: str, ratio: float, visible: int) -> None:
    task, batch = build(model, mask_ratio=ratio), batch_of()
    assert task(batch, 7)["loss"].item() == pytest.approx(plain_loss(task, batch, 7, visible).item(), rel=1e-5)


def test_two_steps_are_those_of_plain_lines(optimizer_step: OptimizerStep, plain_sgd: Callable[..., Any]) -> None:
    task, plain = build(), build()
    optimizer, oracle = build_optimizer("sgd", task.parameter_groups()), plain_sgd(plain, 0.1)
    for step in range(2):
        batch = batch_of(seed=step)
        oracle.step(plain_loss(plain, batch, step))
        optimizer_step(task, optimizer, [batch], step, lr=0.1)
        for name, parameter in task.named_parameters():
            torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-4, atol=1e-6)


def test_the_encoder_does_not_see_hidden_patches_and_visible_ones_are_not_painted_for_credit() -> None:
    task, batch = build(), batch_of(2)
    order = random_order(image_keys(0, batch["row"]), PATCHES)
    seen: list[Tensor] = []
    task.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    task(batch, 0)
    for k, patches in enumerate(order[:, VISIBLE:]):
        for patch in patches.tolist():
            y, x = PATCH * (patch // 4), PATCH * (patch % 4)
            batch["views"][0][k, y : y + PATCH, x : x + PATCH] = (
                255 - batch["views"][0][k, y : y + PATCH, x : x + PATCH]
            )
    loss = task(batch, 0)["loss"]
    assert seen[0].shape == (2, 1 + VISIBLE, 64)
    assert torch.equal(seen[0], seen[1])

    def other_paint(module: torch.nn.Module, inputs: tuple[Tensor, ...], paint: Tensor) -> Tensor:
        visible = torch.zeros(2, PATCHES, 1).scatter(1, order[:, :VISIBLE, None], 1.0)
        return paint + 10 * visible

    task.decoder.register_forward_hook(other_paint)
    assert task(batch, 0)["loss"].item() == loss.item()


def test_accumulation_is_one_big_batch(optimizer_step: OptimizerStep) -> None:
    halves = [batch_of(4, seed=k) for k in range(2)]
    whole = {"views": [torch.cat([h["views"][0] for h in halves])], "row": torch.cat([h["row"] for h in halves])}
    one, two = build(), build()
    for task, batches in ((one, [whole]), (two, halves)):
        optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), batches, 0, lr=0.1)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])
def test_every_trainable_parameter_gets_a_gradient_and_is_in_one_group(model: str) -> None:
    task = build(model)
    task(batch_of(), 0)["loss"].backward()
    trainable = {name for name, p in task.named_parameters() if p.requires_grad}
    assert {name for name, p in task.named_parameters() if p.grad is not None} == trainable
    assert {name for name, p in task.named_parameters()} - trainable == {"encoder.mask_token", "encoder.vit.pos_embed"}
    grouped = [id(p) for group in task.parameter_groups() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in task.parameters() if p.requires_grad)
    assert all(p.ndim > 1 for group in task.parameter_groups() if group["decays"] for p in group["params"])


def test_the_state_dict_is_all_that_a_resumed_run_needs(optimizer_step: OptimizerStep) -> None:
    task, other = build(), build(seed=1)
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=0.1)
    other.load_state_dict(task.state_dict())
    torch.manual_seed(5)  # masks do not come from the global generator
    expected = task(batch_of(), 3)["loss"].item()
    assert other(batch_of(), 3)["loss"].item() == expected


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    task, batch = build(), batch_of()
    images = task.normalize(batch["views"][0])
    visible = random_order(image_keys(0, batch["row"]), PATCHES)[:, :VISIBLE]
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch, 0)["loss"]
        paint = painted(task, encoded(task, images, visible), visible)
    assert paint.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(section_4_1(paint.float(), images, visible).item(), rel=1e-3)


@pytest.mark.parametrize("model", ["test_vit", "test_vit2"])
def test_the_exported_network_is_a_plain_timm_model_bit_for_bit(
    model: str, tmp_path: Path, optimizer_step: OptimizerStep
) -> None:
    task = build(model)
    optimizer_step(task, build_optimizer("sgd", task.parameter_groups()), [batch_of()], 0, lr=0.1)
    exported = task.exported().eval()
    images = task.normalize(batch_of(seed=9)["views"][0])
    tokens = task.encoder.eval().encode(images)
    assert torch.equal(tokens, exported.forward_features(images))  # type: ignore[operator]
    save_backbone(exported, tmp_path / "backbone", SIZE)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'backbone'}", pretrained=True, img_size=SIZE).eval()
    assert type(loaded) is type(exported)
    assert torch.equal(loaded(images), exported(images))


@pytest.mark.parametrize(("model", "prefix"), [("test_vit", 1), ("test_vit2", 1)])
def test_positions_are_those_of_the_image_size(model: str, prefix: int) -> None:
    """For each patch: sin and cos of its column times 1 / 10000^(2i / half), then of its row; nothing for other tokens."""

    def expected(width: int) -> Tensor:
        rows = [torch.zeros(width)] * prefix
        for y in range(4):
            for x in range(4):
                rates = [10000 ** (-i / (width // 4)) for i in range(width // 4)]
                waves = [wave(place * rate) for place in (x, y) for wave in (math.sin, math.cos) for rate in rates]
                rows.append(torch.tensor(waves))
        return torch.stack(rows)[None]

    task = build(model)
    torch.testing.assert_close(task.encoder.vit.pos_embed.detach(), expected(64))
    torch.testing.assert_close(task.decoder.positions, expected(64))
    torch.testing.assert_close(sine_cosine_positions(32, 4, prefix), expected(32))


def test_an_encoder_from_nothing_starts_as_in_the_official_code() -> None:
    """Linear layers and the patch embedding uniform within Xavier's bound and without biases, the class token small."""
    vit = build().encoder.vit.requires_grad_(False)
    layers = [module for module in vit.modules() if isinstance(module, nn.Linear)]
    assert len(layers) > 8
    for weight, bias in [
        *((layer.weight, layer.bias) for layer in layers),
        (vit.patch_embed.proj.weight.flatten(1), None),
    ]:
        bound = (6 / sum(weight.shape)) ** 0.5
        assert 0.97 * bound < weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert bias is None or not bias.any()
    assert vit.cls_token.std() == pytest.approx(0.02, rel=0.3)


def test_weights_that_are_given_keep_their_positions(tmp_path: Path) -> None:
    network = build_backbone(BackboneConfig(model="test_vit"), SIZE)
    save_file(network.state_dict(), tmp_path / "start.safetensors")
    task = build(backbone={"weights": str(tmp_path / "start.safetensors")})
    assert all(torch.equal(task.exported().state_dict()[name], value) for name, value in network.state_dict().items())
    assert task.encoder.vit.pos_embed.requires_grad


def test_gradient_checkpoints_change_nothing() -> None:
    task, other, batch = build(), build(backbone={"grad_checkpointing": True}), batch_of()
    for one in (task, other):
        one(batch, 0)["loss"].backward()
    for (name, a), (_, b) in zip(task.named_parameters(), other.named_parameters(), strict=True):
        assert a.grad is None or torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]
    assert other.encoder.grad_checkpointing


def test_what_torch_compile_may_compile_is_what_runs() -> None:
    task = build()
    ran: list[torch.nn.Module] = []
    for network in task.networks():
        network.register_forward_hook(lambda module, *_: ran.append(module))
    task(batch_of(), 0)
    assert ran == task.networks()


def test_the_decoder_learns_while_the_encoder_stands_still() -> None:
    task = build()
    held = {id(parameter) for parameter in task.held_first()}
    free = {name for name, parameter in task.named_parameters() if id(parameter) not in held}
    assert free == {f"decoder.{name}" for name, _ in task.decoder.named_parameters()} | {"encoder.mask_token"}


def test_feature_std_is_of_the_class_token() -> None:
    task, batch = build(), batch_of(8)
    images = task.normalize(batch["views"][0])
    visible = random_order(image_keys(0, batch["row"]), PATCHES)[:, :VISIBLE]
    token = encoded(task, images, visible)[:, 0]
    spread = (token / token.norm(dim=1, keepdim=True)).std(dim=0).mean() * 8  # the square root of 64
    assert task(batch, 0)["feature_std"].item() == pytest.approx(spread.item(), rel=1e-4)


@pytest.mark.parametrize("model", ["resnet18", "eva02_tiny_patch14_224", "vit_tiny_r_s16_p8_224"])
def test_a_network_whose_patches_are_no_tokens_is_refused(model: str) -> None:
    expected = (
        f"method mae masks patches and needs a plain vision transformer; backbone.model={model} is none; "
        "use for instance vit_small_patch16_224, or method.name=simclr"
    )
    with pytest.raises(InputError) as error:
        build(model)
    assert str(error.value) == expected


def test_a_network_that_pools_by_attention_is_refused() -> None:
    with pytest.raises(InputError, match=r"backbone\.model=test_vit3 pools .* method\.name=dinov2"):
        build("test_vit3")


def test_a_ratio_that_leaves_no_patch_visible_is_refused() -> None:
    with pytest.raises(InputError, match=r"mask_ratio=0\.95 leaves none of the 16 patches of views\.size=64 visible"):
        build(mask_ratio=0.95)


@pytest.mark.parametrize(
    ("preset", "scale", "mirror"), [("paper", (0.2, 1.0), HorizontalFlip), ("lesion", (0.4, 1.0), D4)]
)
def test_the_view_is_one_crop_that_keeps_colours(preset: Any, scale: tuple[float, float], mirror: type) -> None:
    views = mae_view(ViewsConfig(preset=preset, size=32))
    crop, flip = views.views[0].steps
    assert isinstance(crop, RandomResizedCrop)
    assert (len(views), crop.scale, type(flip)) == (1, scale, mirror)
    pixels = np.full((40, 50, 3), [190, 130, 105], np.uint8)
    (view,) = views(pixels, (0, 1))
    assert view.shape == (32, 32, 3)
    assert (view == pixels[0, 0]).all()
    chosen = mae_view(ViewsConfig(preset=preset, global_scale=(0.7, 0.9))).views[0].steps[0]
    assert isinstance(chosen, RandomResizedCrop)
    assert chosen.scale == (0.7, 0.9)


def test_the_defaults_are_the_papers_and_keys_that_exist(tmp_path: Path) -> None:
    facts = DataFacts(400_000, 130.0, 512, ViewsConfig(), 78_000, True, None)
    values = {default.key: default.value for default in MAEConfig().defaults(facts)}
    assert (values["optim.name"], values["optim.betas"]) == ("adamw", (0.9, 0.95))
    assert (values["optim.lr"], values["optim.lr_batch_size"], values["optim.weight_decay"]) == (1.5e-4, 256, 0.05)
    assert (values["optim.end_lr"], values["loop.clip_norm"]) == (0.0, None)
    assert values["optim.warmup_epochs"] == pytest.approx(78_000 * 512 / 400_000 / 20)
    tree: dict[str, Any] = {"run_dir": tmp_path, "data": {"sources": {"a": tmp_path}}, "method": {"name": "mae"}}
    for key, value in values.items():
        section, leaf = key.split(".")
        tree.setdefault(section, {})[leaf] = value
    assert validate(PretrainConfig, tree, "defaults").optim.betas == (0.9, 0.95)
