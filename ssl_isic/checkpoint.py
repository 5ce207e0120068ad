"""Checkpoints: whole or not at all, a limited number of them, and enough in each to go on to the last bit.

On a GPU that is as far as its kernels repeat themselves: some add up in an order of their own.

A checkpoint is a folder `step-000000120/` of Accelerate's `save_state` (weights, optimizer, scaler; under FSDP the share of
each rank) with our `progress.json`. It is written under another name and renamed when it is complete. Random numbers need
no state: every step seeds itself, see `stepper.seed_step`.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.nn.parallel import DistributedDataParallel

from ssl_isic.errors import InputError
from ssl_isic.files import flush_to_disk, full_disk_named

WRAPPED = "module."
"""What DistributedDataParallel puts in front of the names of weights."""

NOT_THE_CHECKPOINT = (torch.OutOfMemoryError, torch.distributed.DistError)
"""What goes wrong with a device or between processes while a checkpoint is read."""


@dataclass
class Progress:
    """Where a run stands: optimizer steps done, the images that did not decode so far, by id, since which step the
    collapse guard has seen a sign, and at which step the network was last looked at."""

    step: int = 0
    bad_images: list[str] = field(default_factory=list)
    collapsing_since: int | None = None
    looked: int | None = None


def save_checkpoint(accelerator: Accelerator, folder: Path, progress: Progress, keep: int) -> None:
    """Write `folder/step-N` and remove all but the newest `keep` checkpoints. Every rank calls this.

    Raises:
        OSError: the disk is full (ENOSPC); earlier checkpoints are left as they were.
    """
    final = folder / f"step-{progress.step:09d}"
    partial = folder / f".{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with full_disk_named(partial), _names_of_one_process(accelerator):
        accelerator.save_state(str(partial), safe_serialization=True)
        if accelerator.is_main_process:
            (partial / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for written in partial.rglob("*"):
            flush_to_disk(written)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        flush_to_disk(folder)
        for old in list_checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, path: Path) -> Progress:
    """Restore model, optimizer and scaler in place. InputError when the checkpoint is of another model or launch."""
    shares = any(path.glob("pytorch_model_fsdp*"))
    if shares != (accelerator.distributed_type == DistributedType.FSDP):
        raise InputError(
            f"cannot resume from {path}: it was written with{'' if shares else 'out'} FSDP; launch as before, or remove "
            "the run's folder to start again"
        )
    try:
        progress = Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
        with _names_of_one_process(accelerator):
            accelerator.load_state(str(path), map_location="cpu")  # a GPU's copy of AdamW's step counts is waited for
    except NOT_THE_CHECKPOINT:
        raise
    except (OSError, EOFError, TypeError, ValueError, RuntimeError, SafetensorError, CheckpointException) as error:
        reason = _reason(error)
        raise InputError(
            f"cannot resume from {path}: {reason}; remove that folder to go on from an earlier one"
        ) from None
    return progress


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


@contextmanager
def _names_of_one_process(accelerator: Accelerator) -> Iterator[None]:
    """Save and load weights by the task's own names, without those of what several processes wrap it in."""

    def unwrapped(models: list[nn.Module], weights: list[dict[str, Tensor]], _: str) -> None:
        weights[:] = [
            {name.removeprefix(WRAPPED): value for name, value in of_model.items()}
            if isinstance(model, DistributedDataParallel)
            else of_model
            for model, of_model in zip(models, weights, strict=False)  # FSDP saves its shares elsewhere
        ]

    def unwrap(models: list[nn.Module], _: str) -> None:
        models[:] = [model.module if isinstance(model, DistributedDataParallel) else model for model in models]

    hooks = accelerator.register_save_state_pre_hook(unwrapped), accelerator.register_load_state_pre_hook(unwrap)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, on some rank if each reads its share."""
    if isinstance(error, CheckpointException):
        error, _ = next(iter(error.failures.values()))
    return next(iter(str(error).splitlines()), type(error).__name__)
