"""Backbones: timm models without a classifier, how they start and how they are saved.

A saved backbone is a folder `model.safetensors` + `config.json` as timm writes it, so that
`timm.create_model("local-dir:FOLDER", pretrained=True)` loads it without this library.
"""

import difflib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field, model_validator
from timm.models import group_parameters, save_for_hf
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_isic.batch_norm import batch_norms
from ssl_isic.config import Config
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_folder
from ssl_isic.saved_weights import (
    KEY,
    TIMM,
    folder_settings,
    misfit,
    pixel_statistics,
    read_weights,
    weights_hash,
)
from ssl_isic.small_maps import speed_up_small_maps
from ssl_isic.strided_points import mend_strided_points


class BackboneConfig(Config):
    """The network that learns the features."""

    model: str = "resnet18"
    """Name of a timm architecture (timm.list_models()); where none is set, the one that the folder of the weights names."""
    weights: str | None = None
    """Start: null for random, a folder or file of timm weights (.safetensors; .pth, .pt or .bin with tensors alone), `timm` for
    timm's pretrained weights, or hf-hub:OWNER/NAME for such a folder on the Hugging Face hub. Pixels are normalised as the
    folder's config.json says, else as timm does for `model`."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth of the student (0.1 in DINO's code for ViTs)."""
    freeze_stages: int = Field(0, ge=0)
    """Stages that keep the weights they start with, from the input on: 1 is the stem or patch embedding, 2 the first stage
    of a convolutional net or block of a ViT as well. Batch norm there still gathers its running statistics."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    @model_validator(mode="before")
    @classmethod
    def _model_of_the_weights(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "model" in given or given.get("weights") in (None, TIMM):
            return given
        architecture = folder_settings(str(given["weights"])).get("architecture")
        return {**given, "model": architecture} if isinstance(architecture, str) else given


class Normalize(nn.Module):
    """uint8 (B, h, w, 3) pixels to float32 (B, 3, h, w), as the backbone's weights expect them."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.permute(0, 3, 1, 2).contiguous().float() - self.mean) / self.std


def start_hashes(config: BackboneConfig) -> dict[str, str]:
    """By key, a hash of the weights that a backbone starts from, where they are a folder or a file.

    Raises:
        InputError: as `weights_hash`.
    """
    return {} if config.weights in (None, TIMM) else {KEY: weights_hash(config.weights)}


def build_backbone(config: BackboneConfig, image_size: int, num_classes: int = 0, drop_rate: float = 0.0) -> nn.Module:
    """A timm model that maps float (B, 3, h, w) to features (B, D), or to logits (B, num_classes).

    Position embeddings are laid out for `image_size`, and ViTs take other sizes too. The pixel normalisation in its
    `pretrained_cfg` is that of the weights, where their folder says one. On a CPU, gradients over a few pixels are computed
    by `small_maps`.

    Raises:
        InputError: no such architecture, weights that are missing, damaged or of another architecture, a setting that
            the architecture does not know.
    """
    _check_architecture(config.model)
    state = None
    if config.weights is not None and config.weights != TIMM:
        state = read_weights(config.weights)
        _check_weights(config, state, image_size)
    options: dict[str, Any] = {"num_classes": num_classes, "pretrained": config.weights is not None}
    if state is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": state}
    if drop_rate:
        options["drop_rate"] = drop_rate
    try:
        model = _create(config, image_size, **options)
    except (OSError, RuntimeError, ValueError) as error:
        if config.weights != TIMM:
            raise
        said = str(error).strip().splitlines()
        if said[0].startswith("Error(s) in loading state_dict"):
            raise InputError(
                f"{KEY}: timm's own for {config.model} do not fit images of {image_size} px ({said[-1].strip()}); "
                "choose the size that they were trained at"
            ) from None
        raise InputError(
            f"{KEY}: timm's own for {config.model} cannot be fetched ({said[0]}); give a file of them"
        ) from None
    if len(list(model.parameters())) < len(list(model.named_parameters(remove_duplicate=False))):
        raise InputError(
            f"backbone.model={config.model} uses one tensor in several layers, which its file of weights could not say; "
            "choose another network"
        )
    if state is not None and config.weights is not None:
        model.pretrained_cfg.pop("state_dict")  # type: ignore[union-attr,operator]
        model.pretrained_cfg.update(pixel_statistics(config.weights))  # type: ignore[union-attr,operator]
    if config.freeze_stages:
        _freeze(model, config.freeze_stages)
    if config.grad_checkpointing:
        _checkpoint_gradients(model, config.model)
    mend_strided_points(model)
    speed_up_small_maps(model)
    return model


def is_vision_transformer(config: BackboneConfig) -> bool:
    """Whether the architecture is a plain vision transformer: its patches stay tokens, of which some can be masked.

    Raises:
        InputError: no such architecture.
    """
    return patch_px(config) is not None


def is_like_vision_transformer(config: BackboneConfig) -> bool:
    """Whether the architecture wants a ViT's recipe: it is one, or has layer norm and no batch norm, as Swin has.

    Raises:
        InputError: no such architecture.
    """
    model = _without_weights(config)
    has_layer_norm = any(isinstance(layer, nn.LayerNorm) for layer in model.modules())
    return isinstance(model, VisionTransformer | Eva) or (has_layer_norm and not batch_norms(model))


def patch_px(config: BackboneConfig) -> int | None:
    """Side of a patch of a plain vision transformer, px; None for other architectures.

    Raises:
        InputError: no such architecture.
    """
    model = _without_weights(config)
    return _patch_of(model)[0] if isinstance(model, VisionTransformer | Eva) else None


def _without_weights(config: BackboneConfig) -> nn.Module:
    _check_architecture(config.model)
    with torch.device("meta"):
        model: nn.Module = timm.create_model(config.model)
    return model


def normalization_of(model: nn.Module) -> Normalize:
    """The pixel normalisation that a timm model's configuration names."""
    settings: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return Normalize(settings["mean"], settings["std"])


def feature_size(model: nn.Module) -> int:
    """Width D of the pooled features of a timm model."""
    return int(model.num_features if not hasattr(model, "head_hidden_size") else model.head_hidden_size)  # type: ignore[arg-type]


def check_input_size(model: nn.Module, size: int, key: str) -> None:
    """Show the model a blank image of `size` px. InputError, naming `key`, when it cannot take it."""
    patch = _patch_of(model)
    if isinstance(model, VisionTransformer | Eva) and any(size % side for side in patch):
        raise InputError(f"{key}={size} does not divide into patches of {patch[0]} px; use a multiple of {patch[0]}")
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        architecture = model.pretrained_cfg["architecture"]  # type: ignore[index]
        raise InputError(
            f"{key}={size}: {architecture} does not take images of this size ({reason}); choose another size or backbone.model"
        ) from None
    finally:
        model.train(training)


def save_backbone(model: nn.Module, folder: Path, image_size: int, cleaning: Sequence[str] = ()) -> None:
    """Write `model` to `folder` in timm's form, whole or not at all.

    `image_size` is the side of its input, px; `cleaning` is what was done to the images it learned from. timm reads the
    one and passes over the other, which stands as `clean` in config.json.
    """
    settings: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    config = {**settings, "input_size": (3, image_size, image_size), "num_classes": model.num_classes}
    about = {"pretrained_cfg": config, "clean": list(cleaning)}
    with atomic_folder(folder) as new:
        save_for_hf(model, str(new), safe_serialization=True, model_config=about)
        for written in new.iterdir():  # safetensors' file is for its owner alone
            written.chmod((new / "config.json").stat().st_mode)


def _patch_of(model: nn.Module) -> tuple[int, int]:
    sides: tuple[int, int] = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))
    return sides


def _check_architecture(model: str) -> None:
    name, tag = model.partition(".")[::2]
    if name not in timm.list_models(name) or (tag and model not in timm.list_models(name, pretrained=True)):
        near = difflib.get_close_matches(model, timm.list_models())
        raise InputError(f"backbone.model: timm has no {model}; try one of {', '.join(near) or 'timm.list_models()'}")


def _check_weights(config: BackboneConfig, state: dict[str, Tensor], image_size: int) -> None:
    weights, name = str(config.weights), config.model
    wrong = misfit(state, _create(config, image_size, num_classes=0))
    if not wrong:
        return
    settings = folder_settings(weights)
    as_made: Any = settings.get("pretrained_cfg") or _without_weights(config).pretrained_cfg
    try:
        trained_at = int(as_made["input_size"][-1])
    except (KeyError, IndexError, TypeError, ValueError):
        trained_at = image_size
    if trained_at != image_size and not misfit(state, _create(config, trained_at, num_classes=0)):
        raise InputError(
            f"{KEY}: {weights} was trained on images of {trained_at} px and does not fit {image_size} px: {wrong}; "
            f"choose {trained_at} px"
        )
    architecture = settings.get("architecture", "its own")
    raise InputError(f"{KEY}: {weights} is not of a {name}: {wrong}; set backbone.model to {architecture}")


def _create(config: BackboneConfig, image_size: int, **options: Any) -> nn.Module:
    # a ViT takes several sizes if told to, other transformers one, and a convolutional net does not know these words;
    # some networks drop paths unless told not to, and some do not know that word either
    sizes: list[dict[str, Any]] = [{"img_size": image_size, "dynamic_img_size": True}, {"img_size": image_size}, {}]
    depths: list[dict[str, Any]] = [{"drop_path_rate": config.drop_path}, *([] if config.drop_path else [{}])]
    for depth, size in product(depths, sizes):
        try:
            model: nn.Module = timm.create_model(config.model, **size, **depth, **options)
        except TypeError as error:
            refused = error
            continue
        except AssertionError as error:
            raise InputError(
                f"{config.model} does not take images of {image_size} px: {error}; choose another size"
            ) from None
        return model
    if "drop_path_rate" not in str(refused):
        raise refused
    raise InputError(
        f"backbone.drop_path={config.drop_path:g}: {config.model} has no stochastic depth; set backbone.drop_path=0"
    )


def _checkpoint_gradients(model: nn.Module, name: str) -> None:
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError):
        raise InputError(
            f"backbone.grad_checkpointing: timm cannot recompute the activations of {name}; set it to false"
        ) from None


def _freeze(model: nn.Module, stages: int) -> None:
    try:
        by_stage = group_parameters(model, model.group_matcher(coarse=True))  # type: ignore[operator]
    except (AttributeError, AssertionError):
        raise InputError(
            f"backbone.freeze_stages={stages}: timm knows no stages of this backbone.model; set 0"
        ) from None
    if stages >= len(by_stage):
        raise InputError(
            f"backbone.freeze_stages={stages} leaves nothing of the {len(by_stage)} stages to train; choose a smaller one"
        )
    for stage in sorted(by_stage)[:stages]:
        for name in by_stage[stage]:
            model.get_parameter(name).requires_grad_(False)
