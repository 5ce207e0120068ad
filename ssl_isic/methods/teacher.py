"""What methods with a moving-average teacher share: heads with prototypes, the teacher's start and moves, its defaults."""

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn

from ssl_isic.methods.method import Default, RunShape
from ssl_isic.schedules import cosine, linear_then_constant

LEAST_EMA, MOST_EMA = 0.98, 0.9995
IMAGES_A_PROTOTYPE = 12
FEWEST_PROTOTYPES, MOST_PROTOTYPES = 512, 65536


@dataclass(frozen=True)
class TeacherPace:
    """How sharp the teacher is at a step, how slow it moves, and how long the prototypes wait."""

    warmup_temperature: float
    """Softmax temperature of the teacher at the first step."""
    temperature: float
    """Softmax temperature of the teacher after its warm-up."""
    warmup_steps: int
    """Steps over which the temperature goes from one to the other."""
    ema: float
    """Momentum of the teacher at the first step; 1 at the last, on a cosine."""
    frozen_steps: int
    """Steps in which the prototypes stand still."""
    total_steps: int
    """Optimizer steps of the whole run."""

    def temperature_at(self, step: int) -> float:
        """The teacher's temperature."""
        return linear_then_constant(step, self.warmup_steps, self.warmup_temperature, self.temperature)

    def momentum_at(self, step: int) -> float:
        """The teacher's momentum."""
        return cosine(step, self.total_steps, self.ema, 1.0)


class TeacherSettings(Protocol):
    """What the settings of a method with a teacher say of it."""

    @property
    def teacher_temperature(self) -> float: ...

    @property
    def teacher_warmup_temperature(self) -> float: ...

    @property
    def teacher_warmup_epochs(self) -> float: ...

    @property
    def ema(self) -> float: ...

    @property
    def freeze_last_layer_epochs(self) -> float: ...


def teacher_pace(settings: TeacherSettings, run: RunShape) -> TeacherPace:
    """The settings in steps of this run."""
    return TeacherPace(
        warmup_temperature=settings.teacher_warmup_temperature,
        temperature=settings.teacher_temperature,
        warmup_steps=round(settings.teacher_warmup_epochs * run.steps_per_epoch),
        ema=settings.ema,
        frozen_steps=round(settings.freeze_last_layer_epochs * run.steps_per_epoch),
        total_steps=run.total_steps,
    )


def prototype_head(
    width: int, prototypes: int, hidden_size: int, bottleneck_size: int, batch_norm: bool = False
) -> DINOProjectionHead:
    """Three layers, L2 norm, and `prototypes` directions of unit norm: (B, width) features to (B, prototypes) cosines.

    Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, appendix C.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # lightly uses the older form of weight_norm
        return DINOProjectionHead(width, hidden_size, bottleneck_size, prototypes, batch_norm=batch_norm)


def start_teacher(teacher: nn.Module, student: nn.Module) -> None:
    """Give `teacher` the weights and buffers of `student`, and keep gradients from it."""
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)


@torch.no_grad()
def move_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Each weight of `teacher` becomes `momentum` times itself plus the rest of `student`'s; buffers are its own.

    To be called once per optimizer step, with the teacher in float32: bf16 is too coarse for such small moves.
    """
    slow: list[Tensor] = list(teacher.parameters())
    fast = [new.to(old.dtype) for old, new in zip(slow, student.parameters(), strict=True)]
    torch._foreach_lerp_(slow, fast, 1 - momentum)


def hold_prototypes(head: DINOProjectionHead) -> None:
    """Keep the prototypes of `head` where they are in the coming optimizer step."""
    for parameter in head.last_layer.parameters():
        parameter.grad = None


def frozen_prototypes_default(epochs: float) -> Default:
    """How long the prototypes stand still in a run of `epochs`."""
    rule = "an epoch (DINO), a hundredth of the run at most"
    return Default("method.freeze_last_layer_epochs", round(min(1.0, epochs / 100), 3), rule)


def teacher_warmup_default(epochs: float) -> Default:
    """How long the teacher's temperature rises in a run of `epochs`."""
    return Default(
        "method.teacher_warmup_epochs", min(30.0, round(0.3 * epochs, 1)), "30, three tenths of the run at most"
    )


def ema_default(total_steps: int, lookback: float) -> Default:
    """The teacher's momentum at the first step, for a moving average over the share `lookback` of the run."""
    ema = min(max(1 - 1 / (lookback * total_steps), LEAST_EMA), MOST_EMA)
    return Default("method.ema", round(ema, 5), f"the teacher looks back over 1/{1 / lookback:.0f} of the run")


def prototypes_default(images: int) -> Default:
    """The number of prototypes for a pool of `images`: a power of two."""
    wanted = 2 ** round(math.log2(images / IMAGES_A_PROTOTYPE))
    prototypes = min(max(wanted, FEWEST_PROTOTYPES), MOST_PROTOTYPES)
    return Default("method.prototypes", prototypes, f"a prototype for about {IMAGES_A_PROTOTYPE} images")
