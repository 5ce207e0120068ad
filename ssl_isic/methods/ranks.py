"""The tensors of all ranks together, for losses that compare an image with everybody's."""

import torch
from lightly.utils import dist
from torch import Tensor


def gathered(tensor: Tensor) -> Tensor:
    """The rows of all ranks, one rank after the other: (B, ...) to (R B, ...) over R ranks, with gradient to each."""
    if dist.world_size() == 1:
        return tensor
    parts: tuple[Tensor, ...] = dist.gather(tensor)
    return torch.cat(parts)
