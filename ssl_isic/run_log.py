"""What a training run reports while it runs, and the two checks that end it: a loss that is not finite, and bad images."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from ssl_isic.checkpoint import Progress, list_checkpoints
from ssl_isic.data.loading import TrainingImages
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write
from ssl_isic.run_folder import MetricsLog

MOST_BAD_IMAGES = 0.01
NEVER = torch.iinfo(torch.int64).max
WANDB = "wandb"
"""A tracker that drops what is logged at a lower step than before, as a run's second fold would be."""


class Means:
    """Running means of scalars by name, on their device, for as long as nobody asks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Add a value, a float32 scalar."""
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all ranks, and begin anew. Every rank calls this."""
        names = sorted(self._sums)
        means = torch.stack([self._sums[name] / self._counts[name] for name in names])
        self._sums.clear()
        self._counts.clear()
        reduced: Tensor = accelerator.reduce(means, reduction="mean")
        return dict(zip(names, reduced.tolist(), strict=True))


class RunLog:
    """Running means, the progress bar, `metrics.jsonl`, trackers, and the checks."""

    def __init__(
        self,
        accelerator: Accelerator,
        run_dir: Path,
        dataset: TrainingImages,
        progress: Progress,
        batch_size: int,
        per_epoch: int,
        total: int,
        title: str,
    ) -> None:
        self.accelerator, self.run_dir, self.dataset, self.progress = accelerator, run_dir, dataset, progress
        self.batch_size, self.per_epoch = batch_size, per_epoch
        self.waited_s = 0.0
        self._bad_rows: list[int] = []
        self._first_bad_step = torch.tensor(NEVER, device=accelerator.device)
        # fp16 meets infinite gradients as a matter of course: its scaler skips the step
        self._must_be_finite = {"loss", "grad_norm"} if accelerator.scaler is None else {"loss"}
        self._of_row, self._lately = Means(), Means()
        self._since, self._since_step = time.perf_counter(), progress.step
        main = accelerator.is_main_process
        self._file = MetricsLog(run_dir / "metrics.jsonl", progress.step) if main else None
        self._bar = tqdm(
            total=total * batch_size,
            initial=progress.step * batch_size,
            desc=title,
            unit="img",
            unit_scale=True,
            disable=not main,
            mininterval=1.0,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, outputs: dict[str, Tensor], step: int) -> None:
        """Add scalars to the running means, and remember the first step with a loss or gradient that is not finite."""
        for name, value in outputs.items():
            value = value.detach().float()
            self._of_row.add(name, value)
            self._lately.add(name, value)
        for name in self._must_be_finite & outputs.keys():
            finite = torch.isfinite(outputs[name].detach())
            here = torch.where(finite, NEVER, step)  # numbers, not tensors: those would be waited for on a GPU
            self._first_bad_step = torch.minimum(self._first_bad_step, here)

    def stepped(self) -> None:
        """Move the progress bar by one optimizer step."""
        self._bar.update(self.batch_size)

    def note_bad(self, rows: list[int]) -> None:
        """Remember dataset rows that did not decode."""
        self._bad_rows += rows

    def check(self) -> None:
        """Raise InputError for a loss that is not finite or for too many bad images. Every rank calls this together."""
        step = _reduce_min(self._first_bad_step, self.accelerator)
        if step != NEVER:
            folder = self.run_dir / "checkpoints"
            kept = f"the last good checkpoint is kept in {folder}; " if list_checkpoints(folder) else ""
            raise InputError(
                f"the loss or its gradient is not finite at step {step}; {kept}lower optim.lr, or set "
                "loop.mixed_precision=bf16 or no"
            )
        new = gather_object([self.dataset.id_of(row) for row in set(self._bad_rows)])
        self._bad_rows.clear()
        self.progress.bad_images = sorted({*self.progress.bad_images, *new})
        if new and self.accelerator.is_main_process:
            with atomic_write(self.run_dir / "bad_images.csv") as temporary:
                temporary.write_text("\n".join(["isic_id", *self.progress.bad_images]) + "\n", encoding="utf-8")
        bad = len(self.progress.bad_images)
        if bad > MOST_BAD_IMAGES * len(self.dataset):
            raise InputError(
                f"{bad} of {len(self.dataset)} images do not decode, more than 1 %; they are named in "
                f"{self.run_dir / 'bad_images.csv'}; is the file of images damaged?"
            )

    def write(self, optimizer: torch.optim.Optimizer) -> None:
        """Write a row with the means since the last one."""
        self.check()
        row = self._of_row.take(self.accelerator)
        elapsed_s = max(1e-9, time.perf_counter() - self._since)
        row["lr"] = max(group["lr"] for group in optimizer.param_groups)
        row["images_per_s"] = (self.progress.step - self._since_step) * self.batch_size / elapsed_s
        row["wait_share"] = self.waited_s / elapsed_s
        row["bad_images"] = len(self.progress.bad_images)
        self.metrics(row)
        self._bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
        self.waited_s = 0.0
        self._since, self._since_step = time.perf_counter(), self.progress.step

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What is done within this is no training, and not in its images a second."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def lately(self) -> dict[str, float]:
        """The means since this was last asked, whatever rows were written. Every rank calls this and gets the same."""
        return self._lately.take(self.accelerator)

    def collapse(self, seen: str) -> None:
        """Write what the guard has seen at the current step, in words to metrics.jsonl, as a 1 to the trackers."""
        self.metrics({"collapse": 1.0}, {"collapse": seen})

    def metrics(self, values: dict[str, float], words: Mapping[str, str] | None = None) -> None:
        """Write `values` at the current step to metrics.jsonl and the trackers; `words` take their place in the first."""
        step = self.progress.step
        if self._file is not None:
            self._file.append({"step": step, "epoch": step / self.per_epoch, **values, **(words or {})})
        if self.accelerator.trackers:
            part = self.run_dir.relative_to(self.accelerator.project_dir).as_posix()  # fold-0; . is the whole run
            for tracker in self.accelerator.trackers:
                if part == ".":
                    tracker.log(values, step=step)
                    continue
                named = {f"{part}/{name}": value for name, value in values.items()}
                if tracker.name == WANDB:
                    tracker.log({**named, f"{part}/step": step})
                else:
                    tracker.log(named, step=step)


def _reduce_min(value: Tensor, accelerator: Accelerator) -> int:
    gathered: Any = accelerator.gather(value.reshape(1))
    return int(gathered.min().item())
