"""SimCLR: two views of an image attract, all other images of the batch, on every rank, repel.

Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1; the head of three layers is of SimCLR v2.
Shapes: B images of one rank, D features, P projected features.
"""

from typing import Literal

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.batch_norm import batch_norms
from ssl_isic.data.groups import Group
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, simclr_views
from ssl_isic.errors import InputError
from ssl_isic.methods.chunks import in_chunks
from ssl_isic.methods.contrast import contrastive_loss
from ssl_isic.methods.diagnostics import feature_std
from ssl_isic.methods.method import (
    DataFacts,
    Default,
    MethodSettings,
    RunShape,
    crop_defaults,
    lars_defaults,
    optimizer_default,
    unscaled_lr,
)
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision

LARS_FROM_BATCH = 1024
MOST_ADAMW_LR_OF_A_VIT = 1e-3


class SimCLRConfig(MethodSettings):
    """SimCLR: contrast of two views, negatives from the whole batch over all ranks."""

    name: Literal["simclr"] = "simclr"
    loss: Literal["nt_xent", "dcl"] = "nt_xent"
    """`dcl` is decoupled: the positive is left out of the denominator, which helps small batches."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over similarities (0.5 in the paper's CIFAR-10 runs)."""
    not_negative: Literal["itself", "lesion", "patient"] = "itself"
    """`lesion` and `patient` leave other images of the same one out of the negatives; they need data.tables. An image that
    a batch holds twice is no negative of itself."""
    chunk: int | None = Field(None, ge=1)
    """Images that are in the backbone at once, at most; null takes all. The gradient is that of the whole batch (GradCache),
    but for batch norm, which sees so many at a time."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the projection head."""
    projection_size: int = Field(128, ge=1)
    """Width of the space in which views are compared."""
    head_layers: int = Field(3, ge=2)
    """Layers of the projection head."""
    head_batch_norm: bool = True
    """Batch norm in the projection head."""

    def groups(self) -> list[Group]:
        return [] if self.not_negative == "itself" else [self.not_negative]

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return simclr_views(views)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "SimCLR":
        return SimCLR(self, backbone, run.image_size)

    def defaults(self, facts: DataFacts) -> list[Default]:
        optimizer = optimizer_default(facts, LARS_FROM_BATCH, below="sgd")
        adamw_lr = 1e-3 * (facts.batch_size / 128) ** 0.5
        lr, lr_rule, decay, decay_rule = {
            "lars": (
                0.075 * facts.batch_size**0.5,
                "0.075 x sqrt(batch) (SimCLR, appendix B.1)",
                1e-6,
                "SimCLR, section 2.2",
            ),
            "sgd": (0.3 * facts.batch_size / 256, "0.3 x batch / 256 (SimCLR, section 2.2)", 1e-4, "with SGD"),
            "adamw": (
                min(adamw_lr, MOST_ADAMW_LR_OF_A_VIT) if facts.is_like_vit else adamw_lr,
                f"1e-3 x sqrt(batch / 128), for a ViT {MOST_ADAMW_LR_OF_A_VIT:g} at most",
                0.01,
                "with AdamW",
            ),
        }[str(optimizer.value)]
        rules = [
            optimizer,
            Default("optim.lr", lr, lr_rule),
            unscaled_lr(),
            Default("optim.weight_decay", decay, decay_rule),
            Default(
                "method.head_layers",
                2 if optimizer.value == "sgd" else 3,
                "2 with SGD (SimCLR), else 3 (SimCLR v2)",
            ),
            *crop_defaults(facts, "simclr"),
        ]
        if optimizer.value == "lars":
            rules += lars_defaults(end_lr=0.0)
        if facts.second_view == "lesion":
            rules.append(
                Default("method.not_negative", "lesion", "data.second_view=lesion: what attracts does not repel")
            )
        return rules


class SimCLR(Task):
    """A backbone and a projection head trained with NT-Xent."""

    def __init__(self, config: SimCLRConfig, backbone: BackboneConfig, image_size: int) -> None:
        super().__init__()
        self.config, self.recomputes = config, config.chunk is not None
        self.backbone = build_backbone(backbone, image_size)
        if config.chunk == 1 and batch_norms(self.backbone):
            raise InputError(
                f"method.chunk=1: {backbone.model} has batch norm, which needs two images at least; set 2 or more"
            )
        self.normalize = normalization_of(self.backbone)
        self.head = SimCLRProjectionHead(
            feature_size(self.backbone),
            config.hidden_size,
            config.projection_size,
            num_layers=config.head_layers,
            batch_norm=config.head_batch_norm,
        )

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        pixels = torch.cat(batch["views"])
        features_2B_D = in_chunks(lambda part: self.backbone(self.normalize(part)), pixels, self.config.chunk, self)
        projected_B_P, other_B_P = self.head(features_2B_D).float().chunk(2)
        with full_precision(projected_B_P):
            contrast = contrastive_loss(
                projected_B_P,
                other_B_P,
                self.config.temperature,
                batch["row" if self.config.not_negative == "itself" else self.config.not_negative],
                decoupled=self.config.loss == "dcl",
            )
            alike = nn.functional.cosine_similarity(projected_B_P, other_B_P).mean()
        return {
            "loss": contrast.loss,
            "negatives": contrast.negatives,
            "positive_similarity": alike,
            "feature_std": feature_std(features_2B_D),
            "projection_std": feature_std(torch.cat([projected_B_P, other_B_P])),
        }

    def remarks(self) -> list[str]:
        if self.config.chunk is None or not batch_norms(self.backbone):
            return []
        return [
            f"method.chunk={self.config.chunk}: batch norm sees no more images than that at a time, and gradients are not "
            "those of the whole batch; without it, as in a ViT or resnet50_gn, they are"
        ]

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.backbone]

    def exported(self) -> nn.Module:
        return self.backbone
