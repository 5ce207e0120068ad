"""DINO: a student matches, on crops, what its slowly moving average says of the whole lesion.

Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, algorithm 1 and the official code.
Shapes: B images of one rank, D features, K prototypes.

Batch norm of the teacher runs in training mode on the teacher's own batches, as in the official code; its running
statistics are the teacher's own.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, dino_views
from ssl_isic.methods.centering import build_centering
from ssl_isic.methods.diagnostics import feature_std, prototype_entropies
from ssl_isic.methods.matching import across_views
from ssl_isic.methods.method import DataFacts, Default, MethodSettings, RunShape, crop_defaults, unscaled_lr
from ssl_isic.methods.multicrop import GLOBAL_CROPS, forward_by_resolution
from ssl_isic.methods.teacher import (
    TeacherPace,
    ema_default,
    frozen_prototypes_default,
    hold_prototypes,
    move_teacher,
    prototype_head,
    prototypes_default,
    start_teacher,
    teacher_pace,
    teacher_warmup_default,
)
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import StepHooks, Task, full_precision

LOOKBACK = 1 / 500  # of the run, as of the authors' 125,000 steps at 0.996


class DINOConfig(MethodSettings):
    """DINO: self-distillation with a moving-average teacher and multi-crop."""

    has_local_crops: ClassVar[bool] = True
    name: Literal["dino"] = "dino"
    local_crops: int = Field(8, ge=0)
    """Local crops an image, beside two global ones."""
    prototypes: int = Field(4096, ge=2)
    """Width K of the output (65536 for ImageNet; smaller data want fewer)."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the head."""
    bottleneck_size: int = Field(256, ge=1)
    """Width of the normalised layer before the prototypes."""
    head_batch_norm: bool = False
    """Batch norm in the head; the official code has none."""
    student_temperature: float = Field(0.1, gt=0)
    """Softmax temperature of the student."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Softmax temperature of the teacher after its warm-up."""
    teacher_warmup_temperature: float = Field(0.04, gt=0)
    """Softmax temperature of the teacher at the first step."""
    teacher_warmup_epochs: float = Field(0.0, ge=0)
    """Epochs over which the teacher's temperature rises (30 in the official code)."""
    ema: float = Field(0.996, ge=0, le=1)
    """Momentum of the teacher at the first step; 1 at the last, on a cosine."""
    centering: Literal["center", "sinkhorn"] = "center"
    """What keeps the teacher from giving all images the same prototypes: a moving center, or Sinkhorn-Knopp (DINOv2)."""
    center_momentum: float = Field(0.9, ge=0, le=1)
    """Momentum of the center of the teacher's outputs."""
    sinkhorn_iterations: int = Field(3, ge=1)
    """Rounds of Sinkhorn-Knopp."""
    freeze_last_layer_epochs: float = Field(1.0, ge=0)
    """Epochs during which the prototypes stand still."""

    def prototype_count(self) -> int:
        return self.prototypes

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return dino_views(views, self.local_crops)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "DINO":
        return DINO(self, backbone, run.image_size, teacher_pace(self, run))

    def defaults(self, facts: DataFacts) -> list[Default]:
        lr = 5e-4 * facts.batch_size / 256 if facts.is_like_vit else 1e-3 * (facts.batch_size / 128) ** 0.5
        rules = [
            prototypes_default(facts.images),
            frozen_prototypes_default(facts.epochs),
            ema_default(facts.total_steps, LOOKBACK),
            Default(
                "method.head_batch_norm",
                not facts.is_like_vit,
                "none for a ViT (DINO); for a convolutional net, whose features start out alike",
            ),
            Default("optim.name", "adamw", "AdamW for all networks (DINO's authors train ResNets by SGD)"),
            Default("optim.lr", lr, "ViT: 5e-4 x batch / 256 (DINO); convolutional net: 1e-3 x sqrt(batch / 128)"),
            unscaled_lr(),
            Default("optim.weight_decay", 0.04, "rises from 0.04 to 0.4 (DINO)"),
            Default("optim.end_weight_decay", 0.4, "rises from 0.04 to 0.4 (DINO)"),
            *crop_defaults(facts, "dino", local=True),
        ]
        if self.teacher_temperature != self.teacher_warmup_temperature:
            rules.append(teacher_warmup_default(facts.epochs))
        if facts.is_like_vit:
            rules.append(Default("backbone.drop_path", 0.1, "of a ViT as a student (DINO)"))
        return rules


class DINO(Task, StepHooks):
    """Student, teacher and center. All three are in the state dict."""

    def __init__(self, config: DINOConfig, backbone: BackboneConfig, image_size: int, pace: TeacherPace) -> None:
        super().__init__()
        self.config, self.pace = config, pace
        self.student = build_backbone(backbone, image_size)
        self.teacher = build_backbone(backbone.model_copy(update={"drop_path": 0.0}), image_size)
        self.student_head, self.teacher_head = (
            prototype_head(
                feature_size(self.student),
                config.prototypes,
                config.hidden_size,
                config.bottleneck_size,
                config.head_batch_norm,
            )
            for _ in range(2)
        )
        start_teacher(self.teacher, self.student)
        start_teacher(self.teacher_head, self.student_head)
        self.normalize = normalization_of(self.student)
        self.centering = build_centering(config)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        views = batch["views"]
        with torch.no_grad():
            features_BD = self.teacher(self.normalize(torch.cat(views[:GLOBAL_CROPS])))
            teacher_2B_K = self.teacher_head(features_BD).float()
        student_VBK = self._student_outputs(views)
        with full_precision(teacher_2B_K):
            target_2B_K = self.centering(teacher_2B_K, self.pace.temperature_at(step))
            log_p_VBK = torch.log_softmax(student_VBK / self.config.student_temperature, dim=-1)
            loss = across_views(target_2B_K.unflatten(0, (GLOBAL_CROPS, -1)), log_p_VBK)
            entropy, marginal = prototype_entropies(target_2B_K)
        return {
            "loss": loss,
            "below_uniform": math.log(self.config.prototypes) - loss.detach(),
            "teacher_entropy": entropy,
            "marginal_entropy": marginal,
            "feature_std": feature_std(features_BD),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.student, self.teacher]

    def exported(self) -> nn.Module:
        return self.teacher

    def before_optimizer(self, step: int) -> None:
        """Keep the prototypes still during the first epochs."""
        if step < self.pace.frozen_steps:
            hold_prototypes(self.student_head)

    def after_step(self, step: int) -> None:
        """Move the teacher and the center, once per optimizer step."""
        momentum = self.pace.momentum_at(step)
        move_teacher(self.teacher, self.student, momentum)
        move_teacher(self.teacher_head, self.student_head, momentum)
        self.centering.after_step()

    def after_skipped_step(self) -> None:
        """Forget what the center has seen."""
        self.centering.forget()

    def _student_outputs(self, views: list[Tensor]) -> Tensor:
        """The student's outputs (V, B, K): the backbone goes over each resolution, the head over all views at once."""
        features = forward_by_resolution(self.student, self.normalize, views)
        return torch.stack(self.student_head(torch.cat(features)).float().chunk(len(views)))
