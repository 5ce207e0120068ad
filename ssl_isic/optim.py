"""Optimizers, and which parameter gets which learning rate and weight decay."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_isic.config import Config

ParameterGroup = dict[str, Any]


class OptimConfig(Config):
    """The optimizer and its schedules."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    """Optimizer: AdamW, SGD with momentum 0.9, or LARS with momentum 0.9 (large batches)."""
    lr: float = Field(5e-4, gt=0)
    """Highest learning rate, for a batch of `lr_batch_size` images."""
    lr_batch_size: int | None = Field(256, ge=1)
    """The learning rate is scaled by batch_size / this; null leaves it as it is."""
    end_lr: float = Field(1e-6, ge=0)
    """Learning rate at the last step."""
    warmup_epochs: float = Field(1.0, ge=0)
    """Epochs over which the learning rate rises from 0."""
    weight_decay: float = Field(0.04, ge=0)
    """Weight decay at the first step; parameters of one dimension get none."""
    end_weight_decay: float | None = Field(None, ge=0)
    """Weight decay at the last step, reached on a cosine; null keeps it constant."""
    heads_first_epochs: float = Field(0.0, ge=0)
    """Epochs in which only the heads learn, while the network stands still: a gentle start from weights. Its warm-up begins
    after them."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's decay of its two moments."""

    def peak_lr(self, batch_size: int) -> float:
        """The highest learning rate for `batch_size` images a step, over all ranks."""
        return self.lr * batch_size / self.lr_batch_size if self.lr_batch_size else self.lr


def parameter_groups(parameters: Iterable[nn.Parameter], lr_scale: float = 1.0) -> list[ParameterGroup]:
    """The trainable ones of `parameters` in two groups: matrices decay; biases, norms and LayerScale gammas do not.

    The loop sets each group's `lr` to `lr_scale` times the schedule, and its `weight_decay` where `decays`.
    """
    trainable = [p for p in parameters if p.requires_grad]
    decaying = [p for p in trainable if p.ndim > 1]
    plain = [p for p in trainable if p.ndim <= 1]
    groups = [
        {"params": decaying, "decays": True, "lr_scale": lr_scale},
        {"params": plain, "decays": False, "lr_scale": lr_scale, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def standing_still(groups: Iterable[ParameterGroup], held: Iterable[nn.Parameter], steps: int) -> list[ParameterGroup]:
    """`groups`, those of the parameters `held` apart: theirs have `stands_still=steps`, the others' 0."""
    names = {id(parameter) for parameter in held} if steps else set()
    divided = [
        {**group, "params": [p for p in group["params"] if (id(p) in names) == waits], "stands_still": steps * waits}
        for group in groups
        for waits in (False, True)
    ]
    return [group for group in divided if group["params"]]


def build_optimizer(
    name: Literal["adamw", "sgd", "lars"],
    groups: list[ParameterGroup],
    betas: tuple[float, float] = (0.9, 0.999),
    fused: bool | None = False,
) -> torch.optim.Optimizer:
    """An optimizer over `groups`; the loop sets learning rates and weight decays before each step.

    `fused` makes AdamW go through a parameter once, and on a GPU through all of them; None leaves it to torch.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    return LARS(groups)


class LARS(torch.optim.Optimizer):
    """SGD with a momentum of 0.9 in which the step of each weight that decays is sized by the weight's own length.

    lightly's LARS, but for two things: on a GPU it waits for no weight, and what decays is sized at a decay of 0 too. A
    weight or gradient of zeros is not sized and does not decay.

    Source: You et al. 2017, https://arxiv.org/abs/1708.03888, equation 6.
    """

    MOMENTUM, TRUST, EPS = 0.9, 1e-3, 1e-8

    def __init__(self, groups: list[ParameterGroup]) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            updates = [weight.grad for weight in weights]
            if group["decays"]:
                updates = self._sized(weights, updates, group["weight_decay"])
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(buffers, self.MOMENTUM)
            torch._foreach_add_(buffers, updates)
            torch._foreach_add_(weights, buffers, alpha=-group["lr"])

    def _sized(self, weights: list[Tensor], gradients: list[Tensor], decay: float) -> list[Tensor]:
        """Gradient and decay of each weight times the rate of equation 6, which makes them about TRUST of its length."""
        lengths, slopes = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, gradients))
        there = (lengths * slopes > 0).to(lengths.dtype)
        rates = there * (self.TRUST * lengths / (slopes + decay * lengths + self.EPS)) + (1 - there)
        updates = torch._foreach_add(gradients, torch._foreach_mul(weights, (there * decay).unbind()))
        torch._foreach_mul_(updates, rates.unbind())
        return list(updates)
