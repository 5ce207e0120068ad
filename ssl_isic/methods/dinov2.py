"""DINOv2: DINO on whole lesions, the same on patches that the student does not see (iBOT), and features spread out (KoLeo).

Source: Oquab et al. 2023, https://arxiv.org/abs/2304.07193, and the official code; Zhou et al. 2022 (iBOT),
https://arxiv.org/abs/2111.07832; Sablayrolles et al. 2019 (KoLeo), https://arxiv.org/abs/1806.03198.
Not as in that code: the network is timm's as it is (LayerScale only where the architecture has it, drop path rising from block
to block), prototypes keep unit length throughout, and both heads have one bottleneck (256, as that code has by default; its
largest models have 384 for images).
Shapes: B images of one rank, 2B global crops (all first ones, then all second ones), N patches of a crop, L tokens with the
class and register tokens in front, M hidden patches of all global crops, D features, K prototypes, V views.
"""

import math
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from lightly.loss.koleo_loss import KoLeoLoss
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, dinov2_views
from ssl_isic.methods.centering import build_centering
from ssl_isic.methods.diagnostics import feature_std, prototype_entropies
from ssl_isic.methods.masks import block_masks, image_keys
from ssl_isic.methods.matching import across_views
from ssl_isic.methods.method import DataFacts, Default, MethodSettings, RunShape, crop_defaults, unscaled_lr
from ssl_isic.methods.multicrop import GLOBAL_CROPS, forward_by_resolution
from ssl_isic.methods.patch_tokens import features_of, layerwise_groups, masked_vit
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

LOOKBACK = 1 / 1000  # of the run, as of the authors' 125,000 steps at 0.992
Share = Annotated[float, Field(ge=0, le=1)]


class DINOv2Config(MethodSettings):
    """DINOv2: DINO, hidden patches (iBOT) and spread features (KoLeo); vision transformers only."""

    has_local_crops: ClassVar[bool] = True
    calls_blocks: ClassVar[bool] = True
    name: Literal["dinov2"] = "dinov2"
    local_crops: int = Field(8, ge=0)
    """Local crops an image, beside two global ones."""
    prototypes: int = Field(4096, ge=2)
    """Width K of the output of each of the two heads (65536 for ImageNet; smaller data want fewer)."""
    hidden_size: int = Field(2048, ge=1)
    """Width of the heads."""
    bottleneck_size: int = Field(256, ge=1)
    """Width of the normalised layer before the prototypes."""
    student_temperature: float = Field(0.1, gt=0)
    """Softmax temperature of the student."""
    teacher_temperature: float = Field(0.07, gt=0)
    """Softmax temperature of the teacher after its warm-up."""
    teacher_warmup_temperature: float = Field(0.04, gt=0)
    """Softmax temperature of the teacher at the first step."""
    teacher_warmup_epochs: float = Field(30.0, ge=0)
    """Epochs over which the teacher's temperature rises."""
    ema: float = Field(0.992, ge=0, le=1)
    """Momentum of the teacher at the first step; 1 at the last, on a cosine."""
    centering: Literal["sinkhorn", "center"] = "sinkhorn"
    """What keeps the teacher from few prototypes: Sinkhorn-Knopp over all ranks, or DINO's moving center."""
    sinkhorn_iterations: int = Field(3, ge=1)
    """Rounds of Sinkhorn-Knopp."""
    center_momentum: float = Field(0.9, ge=0, le=1)
    """Momentum of the moving centers."""
    mask_probability: float = Field(0.5, ge=0, le=1)
    """Share of the global crops in which the student does not see all patches."""
    mask_ratio: tuple[Share, Share] = (0.1, 0.5)
    """Share of the patches of such a crop that is hidden, smallest and largest."""
    ibot_weight: float = Field(1.0, ge=0)
    """Weight of the loss on hidden patches."""
    koleo_weight: float = Field(0.1, ge=0)
    """Weight of the loss that spreads the features of the images of one rank."""
    freeze_last_layer_epochs: float = Field(1.0, ge=0)
    """Epochs during which the prototypes stand still."""
    layer_decay: float = Field(0.9, gt=0, le=1)
    """Learning rate of a block as a share of the next one's."""
    patch_embed_lr_scale: float = Field(0.2, ge=0)
    """Learning rate of the patch embedding as a share of what its layer would have."""

    def prototype_count(self) -> int:
        return self.prototypes

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return dinov2_views(views, self.local_crops)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "DINOv2":
        return DINOv2(self, backbone, run.image_size, teacher_pace(self, run))

    def defaults(self, facts: DataFacts) -> list[Default]:
        lr = 4e-3 * (facts.batch_size / 1024) ** 0.5
        return [
            prototypes_default(facts.images),
            frozen_prototypes_default(facts.epochs),
            teacher_warmup_default(facts.epochs),
            ema_default(facts.total_steps, LOOKBACK),
            Default("backbone.drop_path", 0.1, "of a ViT as a student (DINO; DINOv2's own 0.3 is for larger ones)"),
            Default("optim.name", "adamw", "AdamW for all networks (DINOv2)"),
            Default("optim.lr", lr, "4e-3 x sqrt(batch / 1024) (DINOv2)"),
            unscaled_lr(),
            Default("optim.weight_decay", 0.04, "rises from 0.04 to 0.4 (DINOv2)"),
            Default("optim.end_weight_decay", 0.4, "rises from 0.04 to 0.4 (DINOv2)"),
            *crop_defaults(facts, "dinov2", local=True),
        ]


class DINOv2(Task, StepHooks):
    """Student, teacher and what centers the teacher's outputs. All are in the state dict."""

    def __init__(self, config: DINOv2Config, backbone: BackboneConfig, image_size: int, pace: TeacherPace) -> None:
        super().__init__()
        self.config, self.pace = config, pace
        self.student = masked_vit(backbone, image_size, config.name)
        self.teacher = build_backbone(backbone.model_copy(update={"drop_path": 0.0}), image_size)
        self.grid: tuple[int, int] = self.student.vit.patch_embed.grid_size
        self.student_head, self.teacher_head = (self._head() for _ in range(2))
        self.student_patch_head, self.teacher_patch_head = (self._head() for _ in range(2))
        for teacher, student in self._pairs():
            start_teacher(teacher, student)
        self.normalize = normalization_of(self.teacher)
        self.centering, self.patch_centering = (build_centering(config) for _ in range(2))
        self.koleo = KoLeoLoss()

    def before_transfer(self, batch: Batch, step: int) -> Batch:
        """With `hidden`, bool (2B, N), True where the student does not see a patch of a global crop, and
        `hidden_places`, int64 (M,), the places of those patches among all 2B * N."""
        keys = torch.cat([image_keys(step, batch["row"], view) for view in range(GLOBAL_CROPS)])
        hidden = block_masks(keys, self.grid, self.config.mask_probability, self.config.mask_ratio).flatten(1)
        return {**batch, "hidden": hidden, "hidden_places": hidden.flatten().nonzero()[:, 0]}

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        views, temperature = batch["views"], self.pace.temperature_at(step)
        images = self.normalize(torch.cat(views[:GLOBAL_CROPS]))
        hidden_2B_N, places_M = batch["hidden"], batch["hidden_places"]
        with torch.no_grad():
            tokens = self.teacher.forward_features(images)  # type: ignore[operator]
            features_2B_D, teacher_patches = features_of(self.teacher, tokens)
            teacher_2B_K = self.teacher_head(features_2B_D).float()
            teacher_MK = self.teacher_patch_head(teacher_patches.flatten(0, 1)[places_M]).float()
        student_2B_D, student_patches = self._student_features(images, hidden_2B_N)
        student_VBK = torch.stack([*self.student_head(student_2B_D).float().chunk(2), *self._local_outputs(views)])
        student_MK = self.student_patch_head(student_patches.flatten(0, 1)[places_M]).float()
        with full_precision(images):
            target_2B_K = self.centering(teacher_2B_K, temperature)
            dino = across_views(target_2B_K.unflatten(0, (GLOBAL_CROPS, -1)), self._log_softmax(student_VBK))
            target_MK = self.patch_centering(teacher_MK, temperature)
            ibot = on_hidden_patches(target_MK, self._log_softmax(student_MK), hidden_2B_N, places_M)
            # not between the crops of one image, which are to be alike
            koleo = torch.stack([self.koleo(crop_BD) for crop_BD in student_2B_D.float().chunk(GLOBAL_CROPS)]).sum()
            loss = dino + self.config.ibot_weight * ibot + self.config.koleo_weight * koleo
            entropy, marginal = prototype_entropies(target_2B_K)
            patch_entropy, patch_marginal = prototype_entropies(target_MK)
        return {
            "loss": loss,
            "dino": dino,
            "ibot": ibot,
            "koleo": koleo,
            "below_uniform": math.log(self.config.prototypes) - dino.detach(),
            "teacher_entropy": entropy,
            "marginal_entropy": marginal,
            "patch_teacher_entropy": patch_entropy,
            "patch_marginal_entropy": patch_marginal,
            "feature_std": feature_std(features_2B_D),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        heads = [*self.student_head.parameters(), *self.student_patch_head.parameters()]
        return [
            *layerwise_groups(self.student, self.config.layer_decay, self.config.patch_embed_lr_scale),
            *parameter_groups(heads),
        ]

    def networks(self) -> list[nn.Module]:
        """The blocks of student and teacher, which are what the tokens go through."""
        return [self.student.vit.blocks, self.teacher.blocks]

    def held_first(self) -> Iterable[nn.Parameter]:
        """The student; the teacher follows it."""
        yield from self.student.vit.parameters()

    def exported(self) -> nn.Module:
        return self.teacher

    def before_optimizer(self, step: int) -> None:
        """Keep the prototypes still during the first epochs."""
        if step < self.pace.frozen_steps:
            hold_prototypes(self.student_head)
            hold_prototypes(self.student_patch_head)

    def after_step(self, step: int) -> None:
        """Move the teacher and the centers, once per optimizer step."""
        for teacher, student in self._pairs():
            move_teacher(teacher, student, self.pace.momentum_at(step))
        self.centering.after_step()
        self.patch_centering.after_step()

    def after_skipped_step(self) -> None:
        """Forget what the centers have seen."""
        self.centering.forget()
        self.patch_centering.forget()

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [
            (self.teacher, self.student.vit),
            (self.teacher_head, self.student_head),
            (self.teacher_patch_head, self.student_patch_head),
        ]

    def _head(self) -> nn.Module:
        config = self.config
        head: nn.Module = prototype_head(
            feature_size(self.student.vit), config.prototypes, config.hidden_size, config.bottleneck_size
        )
        return head

    def _student_features(self, images: Tensor, hidden_2B_N: Tensor) -> tuple[Tensor, Tensor]:
        seen = hidden_2B_N.new_zeros(len(images), self.student.vit.num_prefix_tokens)
        return features_of(self.student.vit, self.student.encode(images, mask=torch.cat([seen, hidden_2B_N], dim=1)))

    def _local_outputs(self, views: list[Tensor]) -> list[Tensor]:
        """The student's outputs for the local crops, one (B, K) a crop."""

        def outputs(images: Tensor) -> Tensor:
            features, _ = features_of(self.student.vit, self.student.encode(images))
            cosines: Tensor = self.student_head(features).float()
            return cosines

        return forward_by_resolution(outputs, self.normalize, views[GLOBAL_CROPS:])

    def _log_softmax(self, student: Tensor) -> Tensor:
        return torch.log_softmax(student / self.config.student_temperature, dim=-1)


def on_hidden_patches(target_MK: Tensor, log_p_MK: Tensor, hidden_CN: Tensor, places_M: Tensor) -> Tensor:
    """Mean over C crops of the mean cross-entropy over a crop's hidden patches, 0 for a crop without any.

    Rows are the patches hidden by `hidden_CN`, bool (C, N), in its order, which are at `places_M` of all C * N.

    Source: Zhou et al. 2022, equation 2, weighted by crop as in DINOv2's code.
    """
    share_C = 1 / hidden_CN.sum(dim=1).clamp(min=1)
    entropy_M = -(target_MK * log_p_MK).sum(dim=1)
    return (share_C[places_M // hidden_CN.shape[1]] * entropy_M).sum() / len(hidden_CN)
