"""Optimizers, and which parameter gets which learning rate and weight decay."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

import torch
from lightly.utils.lars import LARS
from pydantic import Field, model_validator
from torch import nn

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

    @model_validator(mode="after")
    def _lars_decays(self) -> Self:
        for key in ("weight_decay", "end_weight_decay"):
            if self.name == "lars" and getattr(self, key) == 0:
                raise ValueError(f"{key}=0: LARS sizes the steps only of weights that decay; set {key}=1e-9, say")
        return self

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
    fused: bool = False,
) -> torch.optim.Optimizer:
    """An optimizer over `groups`; the loop sets learning rates and weight decays before each step.

    `fused` makes AdamW go through a parameter once, which is quicker on a CPU; the others have no such way here.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=fused)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    return LARS(groups, lr=0.0, momentum=0.9)  # type: ignore[no-any-return]
