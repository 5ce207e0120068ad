"""Tensors on their way to the device that computes."""

from typing import Any

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`.

    CUDA copies it from pinned memory and neither side waits: from other memory it would first finish all that it was
    given to do. Any other device is waited for, since what it would copy later may have been written over by then.
    """
    if tensor.is_cpu and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)  # itself where it is pinned
    return tensor.to(device)


def batch_to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The tensors and lists of tensors of `batch` on `device`."""
    return {
        name: to_device(value, device) if isinstance(value, Tensor) else [to_device(one, device) for one in value]
        for name, value in batch.items()
    }
