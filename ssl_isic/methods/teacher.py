"""What methods with a moving-average teacher share: heads with prototypes, the teacher's start and moves, its defaults."""

import math
import warnings

import torch
from lightly.models.modules.heads import DINOProjectionHead
from torch import nn

from ssl_isic.methods.method import Default

IMAGES_A_PROTOTYPE = 12
FEWEST_PROTOTYPES, MOST_PROTOTYPES = 512, 65536


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
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast.to(slow.dtype), 1 - momentum)


def hold_prototypes(head: DINOProjectionHead) -> None:
    """Keep the prototypes of `head` where they are in the coming optimizer step."""
    for parameter in head.last_layer.parameters():
        parameter.grad = None


def prototypes_default(images: int) -> Default:
    """The number of prototypes for a pool of `images`: a power of two."""
    wanted = 2 ** round(math.log2(images / IMAGES_A_PROTOTYPE))
    prototypes = min(max(wanted, FEWEST_PROTOTYPES), MOST_PROTOTYPES)
    return Default("method.prototypes", prototypes, f"a prototype for about {IMAGES_A_PROTOTYPE} images")
