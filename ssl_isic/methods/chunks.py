"""A large batch through a backbone in chunks: the memory of one chunk, the gradient of the whole batch."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


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
        return nullcontext(), _statistics_kept(module)

    parts = torch.tensor_split(images, math.ceil(len(images) / chunk))
    return torch.cat([checkpoint(forward, part, use_reentrant=False, context_fn=contexts) for part in parts])


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers of `module` that see the images of a chunk together."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave running statistics alone: the second pass over a chunk must not count it twice."""
    layers = [layer for layer in batch_norms(module) if layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    counts = [layer.num_batches_tracked for layer in layers if layer.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)
