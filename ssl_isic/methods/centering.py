"""How a teacher's outputs become targets that use all prototypes: Sinkhorn-Knopp, or a moving center.

Shapes: N rows (images or patches) of one rank, K prototypes. Ranks may have different numbers of rows, also none.
"""

from abc import ABC, abstractmethod
from typing import Literal, Protocol

import torch
from lightly.utils import dist
from torch import Tensor, nn


class Centering(nn.Module, ABC):
    """Turns a teacher's outputs into the probabilities that the student is asked to match."""

    @abstractmethod
    def forward(self, outputs_NK: Tensor, temperature: float) -> Tensor:
        """Probabilities (N, K), each row summing to 1, without gradient."""

    @abstractmethod
    def after_step(self) -> None:
        """Called once after each optimizer step, on every rank."""

    @abstractmethod
    def forget(self) -> None:
        """Called instead of it where the step was left out."""


class SinkhornCentering(Centering):
    """Sinkhorn-Knopp over the rows of all ranks: as many rows for each prototype. Nothing is remembered between steps."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations

    def forward(self, outputs_NK: Tensor, temperature: float) -> Tensor:
        return sinkhorn_knopp(outputs_NK, temperature, self.iterations)

    def after_step(self) -> None:
        """There is nothing to move."""

    def forget(self) -> None:
        """There is nothing to forget."""


class MovingCenter(Centering):
    """A softmax of outputs less their moving mean over the rows of all ranks, which moves once per optimizer step.

    Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 4.
    """

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.center: Tensor
        self.register_buffer("center", torch.zeros(prototypes))
        self.seen: list[tuple[Tensor, int]] = []  # sum (K,) and number of rows of each micro-batch since the last step

    @torch.no_grad()
    def forward(self, outputs_NK: Tensor, temperature: float) -> Tensor:
        if self.training:
            self.seen.append((outputs_NK.sum(dim=0), len(outputs_NK)))
        return torch.softmax((outputs_NK - self.center) / temperature, dim=1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the center by the mean of the rows seen since the last step."""
        total, rows = torch.zeros_like(self.center), self.center.new_zeros(1)
        for part, count in self.seen:
            total, rows = total + part, rows + count
        total, rows = _of_all_ranks(total).sum(dim=0), _of_all_ranks(rows).sum(dim=0)
        mean = torch.where(rows > 0, total / rows, self.center)
        self.center.lerp_(mean, 1 - self.momentum)
        self.seen.clear()

    def forget(self) -> None:
        """Leave out the rows seen since the last step."""
        self.seen.clear()


class CenteringSettings(Protocol):
    """What the settings of a method say of its centering."""

    @property
    def centering(self) -> Literal["center", "sinkhorn"]: ...

    @property
    def prototypes(self) -> int: ...

    @property
    def center_momentum(self) -> float: ...

    @property
    def sinkhorn_iterations(self) -> int: ...


def build_centering(settings: CenteringSettings) -> Centering:
    """The centering that the settings name."""
    if settings.centering == "sinkhorn":
        return SinkhornCentering(settings.sinkhorn_iterations)
    return MovingCenter(settings.prototypes, settings.center_momentum)


@torch.no_grad()
def sinkhorn_knopp(outputs_NK: Tensor, temperature: float, iterations: int) -> Tensor:
    """exp(outputs / temperature), scaled in turn to equal sums of the K columns, over all ranks, and of the N rows.

    Returns probabilities (N, K): each row sums to 1, each column to about (rows of all ranks) / K. Computed in logarithms,
    so that no temperature is too low for float32.

    Source: Caron et al. 2020 (SwAV), https://arxiv.org/abs/2006.09882, appendix A, as in DINOv2's code.
    """
    log_p_NK = outputs_NK / temperature
    for _ in range(iterations):
        log_p_NK = log_p_NK - _of_all_ranks(log_p_NK.logsumexp(dim=0)).logsumexp(dim=0)
        log_p_NK = log_p_NK.log_softmax(dim=1)
    return log_p_NK.exp()


def _of_all_ranks(values_K: Tensor) -> Tensor:
    """(R, K): the `values_K` of each of R ranks."""
    return torch.stack(list(dist.gather(values_K))) if dist.world_size() > 1 else values_K.unsqueeze(0)
