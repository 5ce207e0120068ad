"""What a training loop can train."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ssl_isic.data.loading import Batch
from ssl_isic.optim import ParameterGroup


class Task(nn.Module, ABC):
    """A model together with its loss. Everything that a resumed run needs is in its state dict.

    The loss is computed inside `forward`, because DDP's gradient synchronisation and autocast attach there.
    """

    recomputes = False
    """Whether its networks run a second time in the backward pass, of their own accord."""

    @abstractmethod
    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`loss`, a scalar to minimise, and other scalars to log. `step` counts optimizer steps from 0."""

    def before_transfer(self, batch: Batch, step: int) -> Batch:
        """`batch`, still on the CPU, with what `forward` needs and is better made there: what has sizes that a GPU would be
        waited for, or takes many small operations. As it is unless a task says otherwise."""
        return batch

    @abstractmethod
    def parameter_groups(self) -> list[ParameterGroup]:
        """What the optimizer gets, see `optim.parameter_groups`."""

    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """What torch.compile may compile: the timm models inside, or the parts of them that are called."""

    def remarks(self) -> list[str]:
        """What to know before the run begins, a line each."""
        return []

    def held_first(self) -> Iterable[nn.Parameter]:
        """What stands still while new heads learn (`optim.heads_first_epochs`): all of the networks."""
        for network in self.networks():
            yield from network.parameters()

    @abstractmethod
    def exported(self) -> nn.Module:
        """The timm model that remains when training is over."""


class StepHooks(ABC):
    """What a task has to do around the optimizer, if anything; a task that has it inherits from this too."""

    @abstractmethod
    def before_optimizer(self, step: int) -> None:
        """Called with the gradients of optimizer step `step`, before they are clipped."""

    @abstractmethod
    def after_step(self, step: int) -> None:
        """Called once after each optimizer step that really happened, never once per micro-batch."""

    @abstractmethod
    def after_skipped_step(self) -> None:
        """Called instead of it where fp16's scaler left a step out: what was gathered for the step is to be forgotten."""


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the tensor's device. Losses run in it, on float32 inputs."""
    return torch.autocast(tensor.device.type, enabled=False)
