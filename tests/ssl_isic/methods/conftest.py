"""What the loop does with a method in one optimizer step, and the optimizer's own step in plain lines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_isic.task import StepHooks, Task

OptimizerStep = Callable[..., None]


@pytest.fixture(scope="session")
def optimizer_step() -> OptimizerStep:
    """`optimizer_step(task, optimizer, batches, step, lr)`: one step of `len(batches)` micro-batches."""

    def take(
        task: Task, optimizer: torch.optim.Optimizer, batches: Sequence[dict[str, Any]], step: int, lr: float
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            (task(task.before_transfer(batch, step), step)["loss"] / len(batches)).backward()
        if isinstance(task, StepHooks):
            task.before_optimizer(step)
        optimizer.step()
        if isinstance(task, StepHooks):
            task.after_step(step)

    return take


class PlainSgd:
    """Gradient descent with a momentum of 0.9 on the parameters of `model` that learn."""

    def __init__(self, model: nn.Module, lr: float, lr_scales: Mapping[str, float] | None = None) -> None:
        self.lr, self.lr_scales, self.velocity = lr, lr_scales or {}, dict[str, Tensor]()
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def step(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True):
                self.velocity[name] = 0.9 * self.velocity[name] + gradient if name in self.velocity else gradient
                parameter.sub_(self.lr * self.lr_scales.get(name, 1.0) * self.velocity[name])


@pytest.fixture(scope="session")
def plain_sgd() -> type[PlainSgd]:
    """`plain_sgd(model, lr).step(loss)`, as the oracle of what an optimizer step does."""
    return PlainSgd
