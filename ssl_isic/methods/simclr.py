"""SimCLR: two views of an image attract, all other images of the batch, on every rank, repel.

Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1; the head of three layers is of SimCLR v2.
Shapes: B images of one rank, D features, P projected features.
"""

from typing import Literal

import torch
from lightly.loss.ntx_ent_loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, simclr_views
from ssl_isic.methods.diagnostics import feature_std
from ssl_isic.methods.method import DataFacts, Default, MethodSettings, RunShape
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision


class SimCLRConfig(MethodSettings):
    """SimCLR: contrast of two views, negatives from the whole batch over all ranks."""

    name: Literal["simclr"] = "simclr"
    temperature: float = Field(0.1, gt=0)
    """Temperature of the softmax over similarities (0.5 in the paper's CIFAR-10 runs)."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the projection head."""
    projection_size: int = Field(128, ge=1)
    """Width of the space in which views are compared."""
    head_layers: int = Field(3, ge=2)
    """Layers of the projection head."""
    head_batch_norm: bool = True
    """Batch norm in the projection head."""

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return simclr_views(views)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "SimCLR":
        return SimCLR(self, backbone, run.image_size)

    def defaults(self, facts: DataFacts) -> list[Default]:
        return []


class SimCLR(Task):
    """A backbone and a projection head trained with NT-Xent."""

    def __init__(self, config: SimCLRConfig, backbone: BackboneConfig, image_size: int) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, image_size)
        self.normalize = normalization_of(self.backbone)
        self.head = SimCLRProjectionHead(
            feature_size(self.backbone),
            config.hidden_size,
            config.projection_size,
            num_layers=config.head_layers,
            batch_norm=config.head_batch_norm,
        )
        # a mean of per-rank losses over gathered negatives, and a gather that carries gradient
        self.criterion = NTXentLoss(temperature=config.temperature, gather_distributed=True)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        first, second = batch["views"]
        features_2B_D = self.backbone(self.normalize(torch.cat([first, second])))
        projected_B_P, other_B_P = self.head(features_2B_D).float().chunk(2)
        with full_precision(projected_B_P):
            loss = self.criterion(projected_B_P, other_B_P)
            alike = nn.functional.cosine_similarity(projected_B_P, other_B_P).mean()
        return {"loss": loss, "positive_similarity": alike, "feature_std": feature_std(features_2B_D)}

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.backbone]

    def exported(self) -> nn.Module:
        return self.backbone

    def before_optimizer(self, step: int) -> None:
        """SimCLR leaves the gradients as they are."""

    def after_step(self, step: int) -> None:
        """SimCLR keeps nothing beside what the optimizer moves."""
