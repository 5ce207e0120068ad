"""LeJEPA: all views predict the mean of the global ones, and embeddings are kept to an isotropic Gaussian. No teacher.

Source: Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544, algorithms 1 and 2, and the authors' code, which
integrates to 3 where the paper's listing goes to 5.
Shapes: V views, B images of one rank, N images of all ranks, D features, P projected features, S slices (directions),
T integration points.
"""

from typing import ClassVar, Literal

import torch
from lightly.models.modules.heads import ProjectionHead
from lightly.utils import dist
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, dino_views
from ssl_isic.methods.diagnostics import feature_std
from ssl_isic.methods.method import DataFacts, Default, MethodSettings, RunShape, crop_defaults
from ssl_isic.methods.multicrop import GLOBAL_CROPS, forward_by_resolution
from ssl_isic.methods.ranks import gathered
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision
from ssl_isic.transfer import to_device

LR = 5e-4
LARGEST_FREQUENCY = 3.0


class LeJEPAConfig(MethodSettings):
    """LeJEPA: prediction of the global views and a Gaussian regulariser (SIGReg), weighed by one number."""

    has_local_crops: ClassVar[bool] = True
    name: Literal["lejepa"] = "lejepa"
    local_crops: int = Field(6, ge=0)
    """Local crops an image, beside two global ones."""
    sigreg_weight: float = Field(0.05, ge=0, le=1)
    """Weight lambda of SIGReg; the prediction has 1 - lambda."""
    slices: int = Field(1024, ge=1)
    """Random directions of a step along which embeddings are compared with a Gaussian."""
    integration_points: int = Field(17, ge=2)
    """Frequencies at which characteristic functions are compared."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    projection_size: int = Field(64, ge=1)
    """Width of the space in which views are compared (16 in the authors' small example)."""
    head_batch_norm: bool = True
    """Batch norm in the projector's hidden layers."""

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return dino_views(views, self.local_crops)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "LeJEPA":
        return LeJEPA(self, backbone, run.image_size)

    def defaults(self, facts: DataFacts) -> list[Default]:
        decay = 5e-2 if facts.is_like_vit else 5e-4
        drop_path = [Default("backbone.drop_path", 0.1, "of a ViT (LeJEPA)")] if facts.is_like_vit else []
        return [
            Default("optim.name", "adamw", "AdamW for all networks (LeJEPA)"),
            Default("optim.lr", LR, "5e-4 (LeJEPA)"),
            Default("optim.end_lr", (facts.lr or LR) / 1000, "a thousandth of optim.lr (LeJEPA)"),
            Default("loop.clip_norm", None, "gradients are not clipped (LeJEPA)"),
            Default("optim.lr_batch_size", None, "one learning rate for all batch sizes (LeJEPA)"),
            Default("optim.weight_decay", decay, "5e-2 for a ViT, 5e-4 for a convolutional net (LeJEPA)"),
            *drop_path,
            *crop_defaults(facts, "dino", local=True),
        ]


class LeJEPA(Task):
    """A backbone and a projector trained with the prediction loss and SIGReg."""

    def __init__(self, config: LeJEPAConfig, backbone: BackboneConfig, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(backbone, image_size)
        self.normalize = normalization_of(self.backbone)
        self.head = _projector(config, feature_size(self.backbone))

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        features = forward_by_resolution(self.backbone, self.normalize, batch["views"])
        projected_VBP = self.head(torch.cat(features)).float().unflatten(0, (len(features), -1))
        with full_precision(projected_VBP):
            center_BP = projected_VBP[:GLOBAL_CROPS].mean(dim=0)
            prediction = (projected_VBP - center_BP).square().mean()
            directions_PS = random_directions(self.config.projection_size, self.config.slices, step)
            sliced_VBS = projected_VBP @ to_device(directions_PS, projected_VBP.device)
            sigreg = epps_pulley(sliced_VBS, self.config.integration_points).mean()
            loss = (1 - self.config.sigreg_weight) * prediction + self.config.sigreg_weight * sigreg
        return {
            "loss": loss,
            "prediction": prediction,
            "sigreg": sigreg,
            "feature_std": feature_std(torch.cat(features[:GLOBAL_CROPS])),
            "projection_std": feature_std(projected_VBP[:GLOBAL_CROPS].flatten(0, 1)),
            "projection_scale": projected_VBP.detach().std(dim=1).mean(),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.backbone]

    def exported(self) -> nn.Module:
        return self.backbone


# lightly's SIGReg takes its directions from rank 0's global generator, after whatever dropout has drawn from it, and sums
# over ranks by a function that torch 2.15 warns about
def random_directions(width: int, slices: int, step: int) -> Tensor:
    """Unit vectors, the columns of (P, S), on the CPU: a function of the step, the same on all ranks and devices."""
    generator = torch.Generator().manual_seed(step)
    return nn.functional.normalize(torch.randn(width, slices, generator=generator), dim=0)


def epps_pulley(x_VBS: Tensor, points: int) -> Tensor:
    """How far the N values of all ranks are from a standard normal, one statistic (V, S) a view and direction.

    N times the integral over [-3, 3] of |mean_n exp(i t x_n) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt; the integrand is even, so
    that the trapezoidal rule needs `points` on [0, 3] only. About 1.05 for Gaussian values, 0.40 N when all are 0.

    Source: Epps and Pulley 1983; Balestriero and LeCun 2025, algorithm 1.
    """
    t_T = torch.linspace(0, LARGEST_FREQUENCY, points, device=x_VBS.device)
    gaussian_T = torch.exp(-t_T.square() / 2)
    angles_VBST = x_VBS.unsqueeze(-1) * t_T
    moments = torch.stack([angles_VBST.cos().mean(dim=1), angles_VBST.sin().mean(dim=1)])
    real_VST, imaginary_VST = gathered(moments.unsqueeze(0)).mean(dim=0)
    error_VST = (real_VST - gaussian_T).square() + imaginary_VST.square()
    images: int = x_VBS.shape[1] * dist.world_size()
    return 2 * images * torch.trapezoid(error_VST * gaussian_T, t_T, dim=-1)


def _projector(config: LeJEPAConfig, width: int) -> ProjectionHead:
    hidden = config.hidden_size
    norms = [nn.BatchNorm1d(hidden) if config.head_batch_norm else None for _ in range(2)]
    return ProjectionHead(
        [
            (width, hidden, norms[0], nn.ReLU()),
            (hidden, hidden, norms[1], nn.ReLU()),
            (hidden, config.projection_size, None, None),
        ]
    )
