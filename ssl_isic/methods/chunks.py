"""A large batch through a backbone in chunks: the memory of one chunk, the gradient of the whole batch."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_isic.batch_norm import batch_norms, statistics_kept


def in_chunks(forward: Callable[[Tensor], Tensor], images: Tensor, chunk: int | None, module: nn.Module) -> Tensor:
    """`forward(images)` (N, D) from equal chunks of up to `chunk` images, whose activations are computed again in the backward
    pass.

    With a loss over the whole of the result this is GradCache: the gradient of the whole batch, as far as `forward` treats
    images apart. Batch norm sees a chunk at a time, and `module`'s running statistics move once a chunk.

    Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983.
    """
    if chunk is None or chunk >= len(images):
        return forward(images)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), statistics_kept(batch_norms(module))

    parts = torch.tensor_split(images, math.ceil(len(images) / chunk))
    return torch.cat([checkpoint(forward, part, use_reentrant=False, context_fn=contexts) for part in parts])
