"""The classifier starts at the prior, and trains what it is told to train."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from finetune.classifier import Classifier, HeadConfig
from finetune.ensemble import SavedClassifier
from finetune.losses import BCEConfig, FocalConfig
from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.loading import Batch
from ssl_isic.errors import InputError
from ssl_isic.optim import build_optimizer

SIZE = 32


def build(model: str = "test_resnet", prior: float = 0.1, **head: float) -> Classifier:
    torch.manual_seed(0)
    return Classifier(HeadConfig(**head), FocalConfig(), BackboneConfig(model=model), SIZE, prior)  # type: ignore[arg-type]


def batch_of(count: int, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, SIZE, SIZE, 3), generator=rng, dtype=torch.uint8)
    return {"views": [pixels], "target": (torch.arange(count) % 4 == 0).float(), "weight": torch.ones(count)}


def train(classifier: Classifier, steps: int) -> None:
    classifier.train()
    optimizer = build_optimizer("adamw", classifier.parameter_groups())
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for step in range(steps):
        optimizer.zero_grad()
        classifier(batch_of(8, step), step)["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("prior", [0.001, 0.25])
def test_the_head_starts_at_the_prior(model: str, prior: float) -> None:
    classifier = build(model, prior).eval()
    last = classifier.model.get_classifier()  # type: ignore[operator]
    assert last.bias.tolist() == [pytest.approx(math.log(prior / (1 - prior)), rel=1e-6)]
    with torch.no_grad():
        p = torch.sigmoid(classifier.logits(batch_of(16)["views"][0]))
    assert p.shape == (16,)
    assert p.mean().item() == pytest.approx(prior, rel=0.25)


def test_the_loss_is_that_of_its_logits_whatever_autocast_says() -> None:
    classifier = build(dropout=0.0)
    batch = batch_of(8)
    weight = batch["weight"] = torch.linspace(0.1, 1, 8)
    classifier.loss_config = BCEConfig(positive_weight=2.0)
    classifier.eval()
    logits = classifier.logits(batch["views"][0])
    bce = torch.nn.BCEWithLogitsLoss(weight=weight, pos_weight=torch.tensor(2.0))
    loss = classifier(batch, 0)["loss"]
    assert loss.item() == pytest.approx(bce(logits, batch["target"]).item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = classifier(batch, 0)
    assert outputs["loss"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_lesions_do_not_tie_in_half_precision(model: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Rounded to bf16, logits near -6.9 would be multiples of 1/32."""
    classifier = build(model, prior=0.001).eval()
    timm.models.save_for_hf(classifier.exported(), tmp_path, safe_serialization=True)
    saved = SavedClassifier(tmp_path).eval()
    pixels = torch.cat([batch_of(64, seed)["views"][0] // (seed + 1) for seed in range(4)])
    with torch.no_grad():
        exact = classifier.logits(pixels)
        with torch.autocast("cpu", dtype):
            rounded = classifier.logits(pixels)
            again = saved.logits(pixels)
    assert not torch.equal(rounded, exact), f"nothing ran in {dtype}"
    assert torch.equal(again, rounded)
    assert rounded.dtype == torch.float32
    assert len(rounded.unique()) > 0.95 * len(exact.unique())
    assert torch.allclose(rounded, exact, atol=0.02)


def test_a_folder_of_a_backbone_is_no_classifier(tmp_path: Path) -> None:
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=0), tmp_path, safe_serialization=True)
    with pytest.raises(InputError, match="test_resnet does not end in a linear layer, so it is no classifier"):
        SavedClassifier(tmp_path)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_a_frozen_backbone_moves_its_last_layer_only(model: str) -> None:
    classifier = build(model, freeze_backbone=True)
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    train(classifier, steps=4)
    after = classifier.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    head = classifier.model.pretrained_cfg["classifier"]  # type: ignore[index]
    assert moved == {f"{head}.weight", f"{head}.bias"}


def test_features_are_dropped_before_the_last_layer_of_a_frozen_backbone() -> None:
    classifier, batch = build(freeze_backbone=True, dropout=0.5).train(), batch_of(8)
    nn.init.normal_(classifier.model.get_classifier().weight)  # type: ignore[operator]
    one, other = (classifier(batch, 0)["loss"].item() for _ in range(2))
    assert one != other
    scores = [classifier.eval().logits(batch["views"][0]) for _ in range(2)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("model", ["repvit_m0_9", "deit_tiny_distilled_patch16_224", "caformer_s18"])
def test_heads_of_several_layers_start_at_the_prior_and_learn(model: str) -> None:
    torch.manual_seed(0)
    classifier = Classifier(HeadConfig(dropout=0), BCEConfig(), BackboneConfig(model=model), 32, 0.1).eval()
    batch = batch_of(8)
    logits = classifier.logits(batch["views"][0])
    assert 0.05 < torch.sigmoid(logits).mean().item() < 0.2
    assert len(logits.unique()) == 8
    classifier(batch, 0)["loss"].backward()
    stem = next(parameter for parameter in classifier.parameters() if parameter.ndim == 4)
    assert stem.grad is not None
    assert stem.grad.any()


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_the_last_layer_learns_while_the_rest_stands_still(model: str) -> None:
    classifier = build(model)
    held = {id(parameter) for parameter in classifier.held_first()}
    free = [name for name, parameter in classifier.named_parameters() if id(parameter) not in held]
    last = "fc" if model == "test_resnet" else "head"
    assert sorted(free) == [f"model.{last}.bias", f"model.{last}.weight"]


def test_a_size_that_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match=r"image_size=40 does not divide into patches of 16 px"):
        Classifier(HeadConfig(), FocalConfig(), BackboneConfig(model="test_vit"), 40, 0.1)


def test_batch_norm_learns_when_the_backbone_does() -> None:
    classifier = build()
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    train(classifier, steps=2)
    unmoved = [name for name, value in classifier.model.state_dict().items() if torch.equal(before[name], value)]
    assert unmoved == []


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_every_trainable_parameter_is_in_one_group(model: str, freeze: bool) -> None:
    classifier = build(model, freeze_backbone=freeze, backbone_lr_scale=0.1)
    grouped = [id(p) for group in classifier.parameter_groups() for p in group["params"]]
    trainable = [id(p) for p in classifier.parameters() if p.requires_grad]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == set(trainable)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_head_and_backbone_have_their_own_learning_rates_and_vectors_no_decay(model: str) -> None:
    classifier = build(model, backbone_lr_scale=0.05)
    last = {id(p) for p in classifier.model.get_classifier().parameters()}  # type: ignore[operator]
    group_of = {id(p): group for group in classifier.parameter_groups() for p in group["params"]}
    for parameter in classifier.parameters():
        group = group_of[id(parameter)]
        assert group["lr_scale"] == (1.0 if id(parameter) in last else 0.05)
        assert group["decays"] == (parameter.ndim > 1)


def test_pixels_are_normalised_as_the_backbones_weights_expect() -> None:
    classifier = build("test_resnet")
    settings = classifier.model.pretrained_cfg
    seen: list[Tensor] = []
    hook: Callable[..., None] = lambda module, inputs: seen.append(inputs[0])  # noqa: E731
    classifier.model.register_forward_pre_hook(hook)
    pixels = batch_of(2)["views"][0]
    classifier.eval().logits(pixels)
    mean, std = (torch.tensor(settings[name]) for name in ("mean", "std"))  # type: ignore[index]
    by_hand = (pixels.float() / 255 - mean) / std
    assert torch.allclose(seen[0].permute(0, 2, 3, 1), by_hand, atol=1e-5)
