"""One optimizer step: micro-batches, gradients, clipping, the update, and what the task does around it."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_isic.batch_norm import recomputed_batch_norms, statistics_kept
from ssl_isic.data.loading import DRAWN, Batch
from ssl_isic.data.views import SeededViews
from ssl_isic.run_log import RunLog
from ssl_isic.sharding import whole
from ssl_isic.task import StepHooks, Task
from ssl_isic.transfer import batch_to_device


def seed_step(seed: int, step: int, micro: int, rank: int) -> None:
    """Make dropout and stochastic depth functions of the step, so that no generator needs to be saved."""
    state = np.random.SeedSequence([seed, step, micro, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> 1))


@dataclass
class Stepper:
    """Takes the optimizer steps of a run."""

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    accumulate: int
    clip_norm: float | None
    seed: int
    log: RunLog
    heads_first: int
    """Steps in which what the task holds first stands still."""
    views: SeededViews
    """What finishes views on the device, where workers have left that to it."""

    @cached_property
    def recomputed(self) -> list[_BatchNorm]:
        """Batch norms that a backward pass goes through once more."""
        return recomputed_batch_norms(self.task)

    def step(self, step: int, batches: Iterator[Batch]) -> None:
        """Take optimizer step `step` with the next micro-batches."""
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(self.accumulate):
            batch = self._next(batches, step)
            seed_step(self.seed, step, micro, self.accelerator.process_index)
            last = micro == self.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():  # FSDP's forward pass does not enter it by itself
                    outputs: dict[str, Tensor] = self.model(batch, step)
                with statistics_kept(self.recomputed):
                    self.accelerator.backward(outputs["loss"] / self.accumulate)
            self.log.add(outputs, step)
        if step < self.heads_first:
            for parameter in self.task.held_first():
                parameter.grad = None
        hooks = self.task if isinstance(self.task, StepHooks) else None
        if hooks:
            hooks.before_optimizer(step)
        if self.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.task.parameters(), self.clip_norm)
            self.log.add({"grad_norm": whole(norm)}, step)
        self.optimizer.step()
        if hooks and self.accelerator.optimizer_step_was_skipped:
            hooks.after_skipped_step()
        elif hooks:
            hooks.after_step(step)
        self.log.stepped()

    def _next(self, batches: Iterator[Batch], step: int) -> Batch:
        started = time.perf_counter()
        batch = next(batches)
        self.log.waited_s += time.perf_counter() - started
        self.log.note_bad(batch.pop("bad"))
        drawn = batch.pop(DRAWN, None)
        batch = batch_to_device(self.task.before_transfer(batch, step), self.accelerator.device)
        return batch if drawn is None else {**batch, "views": self.views.finished(batch["views"], drawn)}
