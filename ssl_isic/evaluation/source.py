"""Which backbone to look through: a folder of weights, here or on the hub, a file of them, timm's own, or none."""

import hashlib
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import model_validator
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, check_input_size, normalization_of
from ssl_isic.config import Config, Seed
from ssl_isic.data.cleaning import check_names
from ssl_isic.errors import InputError
from ssl_isic.saved_weights import TIMM, folder_settings
from ssl_isic.task import full_precision


class BackboneSource(Config):
    """A backbone by its weights; a word alone is a folder of them, as pretraining and fine-tuning write it."""

    weights: str | None = None
    """A folder or file of timm weights, `timm` for timm's pretrained ones, hf-hub:OWNER/NAME, or null for random ones."""
    model: str | None = None
    """Name of the timm architecture; null reads it from the folder's config.json."""
    seed: Seed = 0
    """Seed of random weights."""

    @model_validator(mode="before")
    @classmethod
    def _folder_alone(cls, value: Any) -> Any:
        return {"weights": str(value)} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _architecture_known(self) -> "BackboneSource":
        if self.model is None and self.weights in (None, TIMM):
            raise ValueError("it needs weights=FOLDER, or the name of an architecture, model=resnet50")
        return self

    def architecture(self) -> str:
        """The name of the timm architecture. InputError when neither the configuration nor the folder says it."""
        if self.model is not None:
            return self.model
        architecture = self.folder_settings().get("architecture")
        if not isinstance(architecture, str):
            raise InputError(
                f"backbone.weights: {self.weights} does not say its architecture; set backbone.model to its name in timm"
            )
        return architecture

    def image_size(self) -> int:
        """The side of the images that the weights were trained on, px. InputError where nothing says it."""
        settings = self.folder_settings().get("pretrained_cfg")
        if settings is None:
            known = timm.get_pretrained_cfg(self.architecture())
            settings = {} if known is None else known.to_dict()
        try:
            return int(settings["input_size"][-1])
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(f"nothing says the size of images for {self.architecture()}; set image_size") from None

    def cleaning(self) -> list[str]:
        """What was done to the images that the weights were trained on; nothing where nothing says it.

        Raises:
            InputError: a folder that names a cleaning which is not there.
        """
        names = self.folder_settings().get("clean", [])
        try:
            return check_names([str(name) for name in names])
        except (TypeError, ValueError) as error:
            raise InputError(f"backbone.weights: clean in {self.weights}/config.json: {error}; set clean") from None

    def folder_settings(self) -> dict[str, Any]:
        """What the folder's config.json holds; nothing where the weights are no folder. InputError as `folder_settings`."""
        return {} if self.weights in (None, TIMM) else folder_settings(self.weights)


def open_backbone(source: BackboneSource, image_size: int) -> nn.Module:
    """The timm model of `source` in evaluation mode: float (B, 3, h, w), normalised, to features (B, D).

    Pixels are normalised as the folder's config.json says, or as timm does for the architecture.

    Raises:
        InputError: weights that are missing, damaged or of another architecture; a size that the network does not take.
    """
    config = BackboneConfig(model=source.architecture(), weights=source.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        model = build_backbone(config, image_size)
    check_input_size(model, image_size, "image_size")
    return model.eval()


class Embedder(nn.Module):
    """uint8 pixels (B, h, w, 3) on the device of the backbone to float32 features (B, D).

    In float32 whatever the launcher's precision: a global pool in bf16 gives features of 8 bits, whose rounding is in every
    spectrum and cosine. On a GPU convolutions round their factors to TF32's 10 bits, as torch has it by default.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        weight = next(backbone.parameters(), torch.empty(0))
        self.backbone, self.normalize = backbone, normalization_of(backbone).to(weight.device)

    def forward(self, pixels: Tensor) -> Tensor:
        with full_precision(pixels):
            features: Tensor = self.backbone(self.normalize(pixels)).float()
        return features


def fingerprint(embedder: Embedder) -> str:
    """SHA-256 of everything that features depend on besides the images: every weight, by name, and the normalisation."""
    digest = hashlib.sha256(type(embedder.backbone).__name__.encode())
    tensors = {**embedder.backbone.state_dict(), "mean": embedder.normalize.mean, "std": embedder.normalize.std}
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
