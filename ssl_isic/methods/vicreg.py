"""VICReg: two views of an image agree, while each dimension keeps its variance and no two say the same.

Source: Bardes et al. 2022, https://arxiv.org/abs/2105.04906, with the normalisations of the official code: the invariance
is a mean over dimensions too, the variance a mean over the two views, the covariance a sum over them.
Shapes: B images of one rank, N images of all ranks, D features, P projected features.
"""

from typing import Literal

import torch
from lightly.models.modules.heads import ProjectionHead
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, simclr_views
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
from ssl_isic.methods.ranks import gathered
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision

LARS_FROM_BATCH = 512
MOST_ADAMW_LR = 1e-3
VARIANCE_EPS = 1e-4  # under the root of the standard deviation, whose slope is infinite at 0


class VICRegConfig(MethodSettings):
    """VICReg: invariance, variance and covariance of two views; no negatives, so small batches do."""

    name: Literal["vicreg"] = "vicreg"
    invariance_weight: float = Field(25.0, ge=0)
    """Weight of the distance between the views of an image."""
    variance_weight: float = Field(25.0, ge=0)
    """Weight of the hinge that keeps each dimension's standard deviation at 1 or more."""
    covariance_weight: float = Field(1.0, ge=0)
    """Weight of the squared covariances between dimensions."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the expander's two hidden layers (8192 in the paper)."""
    projection_size: int = Field(2048, ge=1)
    """Width of the space in which views are compared (8192 in the paper)."""
    head_batch_norm: bool = True
    """Batch norm in the expander's hidden layers."""

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return simclr_views(views)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "VICReg":
        return VICReg(self, backbone, run.image_size)

    def defaults(self, facts: DataFacts) -> list[Default]:
        optimizer = optimizer_default(facts, LARS_FROM_BATCH)
        lars = optimizer.value == "lars"
        share = facts.batch_size / 256
        lr = 0.2 * share if lars else min(5e-4 * share, MOST_ADAMW_LR)
        return [
            optimizer,
            Default(
                "optim.lr", lr, f"x batch / 256: 0.2 with LARS (VICReg); 5e-4 with AdamW, {MOST_ADAMW_LR:g} at most"
            ),
            unscaled_lr(),
            Default("optim.weight_decay", 1e-6 if lars else 0.01, "1e-6 with LARS (VICReg), 0.01 with AdamW"),
            *(lars_defaults(end_lr=1e-3 * (facts.lr or lr)) if lars else []),
            *crop_defaults(facts, "simclr"),
        ]


class VICReg(Task):
    """A backbone and an expander trained with VICReg's three terms."""

    def __init__(self, config: VICRegConfig, backbone: BackboneConfig, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(backbone, image_size)
        self.normalize = normalization_of(self.backbone)
        self.head = _expander(config, feature_size(self.backbone))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        features_2B_D = self.backbone(self.normalize(torch.cat(batch["views"])))
        first_BP, second_BP = self.head(features_2B_D).float().chunk(2)
        with full_precision(first_BP):
            first_NP, second_NP = gathered(first_BP), gathered(second_BP)
            invariance = nn.functional.mse_loss(first_BP, second_BP)
            variance = (variance_term(first_NP) + variance_term(second_NP)) / 2
            covariance = covariance_term(first_NP) + covariance_term(second_NP)
            loss = (
                self.config.invariance_weight * invariance
                + self.config.variance_weight * variance
                + self.config.covariance_weight * covariance
            )
        return {
            "loss": loss,
            "invariance": invariance,
            "variance": variance,
            "covariance": covariance,
            "feature_std": feature_std(features_2B_D),
            "projection_std": feature_std(torch.cat([first_BP, second_BP])),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.backbone]

    def exported(self) -> nn.Module:
        return self.backbone


# lightly's VICRegLoss has the same value, but gives the weighted sum alone, and its mask over the covariances takes five
# times as long
def variance_term(z_NP: Tensor) -> Tensor:
    """Mean over dimensions of how far the standard deviation is below 1: 0.99 for a collapsed batch.

    Source: Bardes et al. 2022, equations 1 and 2.
    """
    std_P = (z_NP.var(dim=0) + VARIANCE_EPS).sqrt()
    return nn.functional.relu(1 - std_P).mean()


def covariance_term(z_NP: Tensor) -> Tensor:
    """Sum of the squared covariances of each two different dimensions, over the number of dimensions.

    Those of all pairs sum to as much as the squared products of each two images, of which there are fewer where N < P.

    Source: Bardes et al. 2022, equations 3 and 4.
    """
    images, width = z_NP.shape
    centered_NP = z_NP - z_NP.mean(dim=0)
    if width <= images:
        return (centered_NP.T @ centered_NP / (images - 1)).fill_diagonal_(0).square().sum() / width
    all_pairs = (centered_NP @ centered_NP.T / (images - 1)).square().sum()
    variance_P = centered_NP.square().sum(dim=0) / (images - 1)
    return (all_pairs - variance_P.square().sum()) / width


def _expander(config: VICRegConfig, width: int) -> ProjectionHead:
    hidden = config.hidden_size
    norms = [nn.BatchNorm1d(hidden) if config.head_batch_norm else None for _ in range(2)]
    return ProjectionHead(
        [
            (width, hidden, norms[0], nn.ReLU()),
            (hidden, hidden, norms[1], nn.ReLU()),
            (hidden, config.projection_size, None, None, False),  # no term would see a bias
        ]
    )
