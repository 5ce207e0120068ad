"""The malignancy classifier: a timm model with one output, trained on imbalanced, possibly soft, weighted targets.

Shapes: B images of one rank; logits (B,).
"""

import math
from collections.abc import Iterable

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from finetune.last_layer import keep_logits_exact, last_layers
from finetune.losses import BCEConfig, FocalConfig, classification_loss
from finetune.mixing import UNMIXED, MixingConfig, draw_from_torch, mixed
from ssl_isic.backbones import BackboneConfig, build_backbone, check_input_size, normalization_of
from ssl_isic.config import Config
from ssl_isic.data.loading import Batch
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision


class HeadConfig(Config):
    """The classifier's last layer and how the backbone below it learns."""

    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout before the last layer."""
    backbone_lr_scale: float = Field(0.1, ge=0)
    """Learning rate of the backbone as a share of the head's."""
    freeze_backbone: bool = False
    """Train the last layer only, on fixed features."""


class Classifier(Task):
    """A timm model with one logit."""

    def __init__(
        self,
        head: HeadConfig,
        loss: FocalConfig | BCEConfig,
        backbone: BackboneConfig,
        image_size: int,
        prior: float,
        mixing: MixingConfig = UNMIXED,
    ) -> None:
        """`prior` is the share of positives among the samples drawn; the head starts by predicting it.

        Raises:
            InputError: images of `image_size` px, which the network does not take.
        """
        super().__init__()
        self.head_config, self.loss_config, self.mixing_config = head, loss, mixing
        self.model = build_backbone(backbone, image_size, num_classes=1, drop_rate=head.dropout)
        check_input_size(self.model, image_size, "image_size")
        self.normalize = normalization_of(self.model)
        keep_logits_exact(self.model)
        if head.freeze_backbone:
            self.model.requires_grad_(False)
        for last in last_layers(self.model):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, math.log(prior / (1 - prior)))
            last.requires_grad_(True)
            if head.freeze_backbone:
                last.register_forward_pre_hook(self._drop)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        if self.head_config.freeze_backbone:
            self.model.eval()  # fixed features: batch norm keeps its statistics, and the network's own dropout rests
        images, target, weight = self.normalize(batch["views"][0]), batch["target"], batch["weight"]
        pairing = draw_from_torch(self.mixing_config, target, *images.shape[2:])
        if pairing is not None:
            images, target, weight = mixed(images, target, weight, pairing)
        logits = self._logits_of(images)
        with full_precision(logits):
            loss = classification_loss(self.loss_config, logits, target, weight)
        return {"loss": loss}

    def logits(self, pixels: Tensor) -> Tensor:
        """float32 logits (B,) of uint8 pixels (B, h, w, 3)."""
        return self._logits_of(self.normalize(pixels))

    def _logits_of(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).squeeze(1).float()
        return logits

    def parameter_groups(self) -> list[ParameterGroup]:
        rest = self.held_first()
        return [*parameter_groups(self._last()), *parameter_groups(rest, lr_scale=self.head_config.backbone_lr_scale)]

    def networks(self) -> list[nn.Module]:
        return [self.model]

    def held_first(self) -> Iterable[nn.Parameter]:
        """All but the last layer."""
        last = set(self._last())
        return (parameter for parameter in self.model.parameters() if parameter not in last)

    def exported(self) -> nn.Module:
        return self.model

    def _drop(self, _: nn.Module, features: tuple[Tensor]) -> Tensor:
        return functional.dropout(features[0], self.head_config.dropout, self.training)

    def _last(self) -> list[nn.Parameter]:
        return [parameter for layer in last_layers(self.model) for parameter in layer.parameters()]
