"""The order within an optimizer step, with a scaler that skips one: what a CPU never meets."""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_isic.data.loading import Batch
from ssl_isic.loop import LoopConfig, prepare_training
from ssl_isic.optim import OptimConfig, ParameterGroup, parameter_groups
from ssl_isic.stepper import Stepper
from ssl_isic.task import StepHooks, Task


class Recorder:
    """Stands for Accelerate with a scaler of fp16: notes what it is asked for, and skips the steps it is told to."""

    def __init__(self, skips: bool) -> None:
        self.optimizer_step_was_skipped, self.process_index, self.device = skips, 0, torch.device("cpu")
        self.done: list[str] = []

    def autocast(self) -> Any:
        return nullcontext()

    def no_sync(self, model: nn.Module) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.done.append("backward")
        (loss * 1024).backward()  # scaled

    def clip_grad_norm_(self, parameters: Iterator[nn.Parameter], norm: float) -> Tensor:
        self.done.append("unscale, clip")
        kept = [parameter for parameter in parameters if parameter.grad is not None]
        for parameter in kept:
            assert parameter.grad is not None
            parameter.grad /= 1024
        return torch.nn.utils.clip_grad_norm_(kept, norm)


class Hooked(Task, StepHooks):
    """A task of one weight whose gradient is 10."""

    def __init__(self, done: list[str]) -> None:
        super().__init__()
        self.weight, self.done = nn.Parameter(torch.zeros(())), done

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": 10 * self.weight}

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        return []

    def exported(self) -> nn.Module:
        return self

    def before_optimizer(self, step: int) -> None:
        self.done.append("before")

    def after_step(self, step: int) -> None:
        self.done.append("after")

    def after_skipped_step(self) -> None:
        self.done.append("skipped")


@pytest.mark.parametrize("skips", [False, True])
def test_gradients_are_clipped_after_unscaling_and_a_skipped_step_moves_no_teacher(skips: bool) -> None:
    accelerator = Recorder(skips)
    task = Hooked(accelerator.done)
    sgd = torch.optim.SGD(task.parameters(), lr=1.0)
    log = SimpleNamespace(
        waited_s=0.0, note_bad=lambda rows: None, add=lambda outputs, step: None, stepped=lambda: None
    )
    views: Any = None
    stepper = Stepper(task, task, sgd, accelerator, 2, 3.0, 0, log, 0, views)  # type: ignore[arg-type]
    stepper.step(0, iter([{"views": [], "bad": []} for _ in range(2)]))
    expected = ["backward", "backward", "before", "unscale, clip"]
    assert accelerator.done == [*expected, "skipped" if skips else "after"]
    assert task.weight.item() == pytest.approx(-3.0), "the norm of what was unscaled"


def test_each_training_begins_with_a_new_scale() -> None:
    """Of fp16's scaler, which the accelerator keeps from fold to fold: a fold that is run alone skips the same steps."""
    scaler = torch.amp.GradScaler("cpu")
    fresh = scaler.state_dict()
    scaler.load_state_dict({**fresh, "scale": 2.0, "_growth_tracker": 7})
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = scaler
    prepare_training(Hooked([]), OptimConfig(), LoopConfig(), accelerator, heads_first=0)
    assert scaler.state_dict() == fresh
