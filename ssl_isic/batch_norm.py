"""Batch norm where a forward pass is computed again in the backward pass: its running statistics must not move twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers of `module` that see the images of a batch together."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def recomputed_batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Those of the networks in `module` whose activations timm computes again in the backward pass."""
    networks = [network for network in module.modules() if getattr(network, "grad_checkpointing", False)]
    return list({id(layer): layer for network in networks for layer in batch_norms(network)}.values())


@contextmanager
def statistics_kept(layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Leave the running statistics of `layers` alone: a second pass over the same images must not count them twice."""
    tracking = [layer for layer in layers if layer.track_running_stats]
    momenta = [layer.momentum for layer in tracking]
    counts = [layer.num_batches_tracked for layer in tracking if layer.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    for layer in tracking:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(tracking, momenta, strict=True):
            layer.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)
