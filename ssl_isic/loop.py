"""The training loop: the only one. It owns ranks, cadence, accumulation, precision, logging, checkpoints and stopping."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, LoggerType, gather_object
from pydantic import BeforeValidator, Field
from timm.layers import convert_sync_batchnorm
from torch import nn
from tqdm import tqdm

from ssl_isic.checkpoint import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from ssl_isic.collapse import GUARD_EVERY, CollapseGuard
from ssl_isic.config import Config, flat
from ssl_isic.data.loading import (
    BatchLayout,
    Order,
    TrainingImages,
    TrainingStream,
    steps_per_epoch,
    training_loader,
)
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError, InterruptedRun
from ssl_isic.interrupt import LAUNCHED, StopAgreement, StopRequest
from ssl_isic.optim import OptimConfig, build_optimizer, standing_still
from ssl_isic.run_log import RunLog
from ssl_isic.schedules import cosine, is_due, warmup_cosine
from ssl_isic.sharding import (
    WholeNetwork,
    check_launched,
    check_layers,
    is_sharded,
    sharding_plugin,
    share_buffers,
    start_moments,
)
from ssl_isic.stepper import Stepper
from ssl_isic.task import Task

LONGEST_WAIT = timedelta(hours=1)
"""For which processes wait for each other: one machine may read its images from a slow disk that the other has in memory."""
Evaluator = Callable[[nn.Module], Iterable[tuple[str, float]]]
"""From the network that is exported to names and values, on every rank alike."""


def _no(value: Any) -> Any:
    """The word no, which YAML takes for false."""
    return "no" if value is False else value


class LoopConfig(Config):
    """Length, batch and cadence of training."""

    epochs: float = Field(100.0, gt=0)
    """Passes over the data."""
    batch_size: int = Field(256, ge=1)
    """Images of one optimizer step, over all ranks and accumulated micro-batches."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches of one optimizer step. SimCLR gains no negatives from it."""
    clip_norm: float | None = Field(3.0, gt=0)
    """Largest norm of all gradients taken together; null does not clip. DINO's authors clip each weight's by
    itself, DINOv2's those of the backbone and of each head."""
    mixed_precision: Annotated[Literal["no", "bf16", "fp16"] | None, BeforeValidator(_no)] = None
    """Null takes what `accelerate launch` was told."""
    compile: bool = False
    """Compile the backbone with torch.compile. Batch norm over several GPUs breaks it up at each norm: set
    sync_batch_norm=false with it."""
    channels_last: bool = False
    """Keep weights and images in channels-last order."""
    sync_batch_norm: bool = True
    """On several GPUs, batch norm sees the batch of all ranks."""
    log_every: int = Field(20, ge=1)
    """Steps between rows of metrics.jsonl."""
    save_every: int = Field(200, ge=0)
    """Steps between checkpoints; 0 saves only at the end."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints that are kept, the newest."""
    trackers: list[str] = []
    """Accelerate's trackers to log to as well: tensorboard, wandb, mlflow, ..."""

    def as_launched(self, accelerator: Accelerator) -> "LoopConfig":
        """With the precision that was left to the launcher: a run goes on with that, or is refused."""
        return self.model_copy(update={"mixed_precision": accelerator.mixed_precision})


@dataclass(frozen=True)
class Schedules:
    """What the loop sets before each step."""

    lr: Callable[[int, int], float]
    """Of the step, and of the steps for which what has this rate stood still at first: its warm-up begins after them."""
    weight_decay: Callable[[int], float]
    """Of the step."""


def schedules_of(config: OptimConfig, batch_size: int, total_steps: int, steps_an_epoch: int) -> Schedules:
    """The learning rate and weight decay that `config` describes, for a run of `total_steps`."""
    warmup, peak = round(config.warmup_epochs * steps_an_epoch), config.peak_lr(batch_size)
    end_decay = config.weight_decay if config.end_weight_decay is None else config.end_weight_decay

    def lr(step: int, stood_still: int) -> float:
        left = total_steps - stood_still
        return warmup_cosine(max(0, step - stood_still), left, min(warmup, left // 2), peak, config.end_lr)

    return Schedules(lr, partial(cosine, total=total_steps, start=config.weight_decay, end=end_decay))


def total_steps(config: LoopConfig, order: Order) -> int:
    """Optimizer steps of the whole run."""
    return max(1, round(config.epochs * steps_per_epoch(order, config.batch_size)))


def build_accelerator(config: LoopConfig, run_dir: Path) -> Accelerator:
    """Accelerate as the launcher set it up, with the configuration's precision and trackers."""
    there = {LoggerType.ALL.value, *(tracker.value for tracker in get_available_trackers())}
    for name in config.trackers:
        if name in LoggerType.list() and name not in there:
            raise InputError(f"loop.trackers: {name} is not installed; pip install {name}, or take it out")
    try:
        sharding = sharding_plugin()
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            log_with=config.trackers or None,
            project_dir=str(run_dir),
            fsdp_plugin=sharding,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"loop: Accelerate cannot be set up: {error}") from None
    if sharding is not None:
        check_launched(accelerator, channels_last=config.channels_last, compiled=config.compile)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16":
        raise InputError("loop.mixed_precision=fp16 needs a GPU, and would be float32 here; set bf16 or no")
    launched = os.environ.get(LAUNCHED, "no")
    if config.mixed_precision is not None and launched not in ("no", config.mixed_precision):
        accelerator.print(f"loop.mixed_precision={config.mixed_precision} stands, and not the launcher's {launched}")
    if accelerator.device.type == "cuda" and accelerator.mixed_precision == "no" and config.mixed_precision is None:
        accelerator.print("in float32, as launched; loop.mixed_precision=bf16 (fp16 before Ampere) is faster on a GPU")
    return accelerator


def start_trackers(accelerator: Accelerator, run_dir: Path, config: Config) -> None:
    """Open the run in its trackers, with all settings; to be called once nothing can be refused any more."""
    if not accelerator.log_with:
        return
    settings = flat(config.model_dump(mode="json"))
    plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
    accelerator.init_trackers(run_dir.name, config=plain)


def fit(
    task: Task,
    dataset: TrainingImages,
    order: Order,
    *,
    accelerator: Accelerator,
    config: LoopConfig,
    loader: LoaderConfig,
    optim: OptimConfig,
    run_dir: Path,
    seed: int,
    evaluate: Evaluator | None = None,
    evaluate_every: int = 0,
    evaluate_first: bool = False,
    guard: CollapseGuard | None = None,
    title: str = "training",
) -> nn.Module:
    """Train `task` on `dataset`, resuming from the newest checkpoint in `run_dir`. Returns the network that it exports.

    Args:
        order: which rows an epoch goes through.
        evaluate: yields (name, value) pairs every `evaluate_every` steps (0: only at the end), on every rank.
        evaluate_first: it does so before the first step, too: what the network is when it starts.
        guard: looks at the means of each `GUARD_EVERY` steps, and stops or warns.

    Raises:
        InputError: a batch size that does not divide, more than 1 % of the images do not decode, a loss that is not finite,
            a collapse, ranks that see other checkpoints.
        InterruptedRun: SIGINT, SIGTERM or the end of the launcher; a checkpoint has been written.
    """
    total = total_steps(config, order)
    per_epoch = steps_per_epoch(order, config.batch_size)
    schedules = schedules_of(optim, config.batch_size, total, per_epoch)
    layout = BatchLayout(config.batch_size, config.accumulate, accelerator.process_index, accelerator.num_processes)
    network = WholeNetwork(task, accelerator)
    heads_first = min(round(optim.heads_first_epochs * per_epoch), total)
    model, optimizer = prepare_training(task, optim, config, accelerator, heads_first)
    folder = run_dir / "checkpoints"
    saved = list_checkpoints(folder)
    check_alike(accelerator, {str(folder): saved[-1].name if saved else "no checkpoint"})
    progress = load_checkpoint(accelerator, saved[-1]) if saved else Progress()
    if guard is not None:
        guard.since = progress.collapsing_since
    stream = TrainingStream(order, layout, progress.step, total, dataset.pool.lookahead)
    on_gpu = accelerator.device.type == "cuda"
    batches = training_loader(dataset, stream, loader, pin_memory=on_gpu)
    log = RunLog(accelerator, run_dir, dataset, progress, config.batch_size, per_epoch, total, title)
    stepper = Stepper(
        model, task, optimizer, accelerator, config.accumulate, config.clip_norm, seed, log, heads_first, dataset.views
    )

    def look() -> None:
        progress.looked = progress.step
        if evaluate is not None:
            with log.looking():
                log.metrics(_evaluated(evaluate, task, network, config.compile))

    if evaluate is not None and progress.step == 0:
        progress.looked = 0
    agreement = StopAgreement(accelerator, progress.step)
    with StopRequest() as stop, log:
        if evaluate is not None and evaluate_first and progress.step == 0:
            look()
        if (
            progress.looked is not None
            and progress.looked < progress.step
            and is_due(progress.step, evaluate_every, total)
        ):
            look()  # a stop did not wait for it
        while progress.step < total:
            _set_schedules(optimizer, schedules, progress.step)
            stepper.step(progress.step, batches)
            progress.step += 1
            stopping = agreement.reached(stop.arrived, progress.step)
            if is_due(progress.step, config.log_every, total) or stopping:
                log.write(optimizer)
            if guard is not None and is_due(progress.step, GUARD_EVERY, total):
                _heed(guard, log, progress, accelerator)
            leaving = stopping and progress.step < total
            if evaluate is not None and is_due(progress.step, evaluate_every, total) and not leaving:
                log.check()
                look()
            if is_due(progress.step, config.save_every, total) or stopping:
                log.check()
                share_buffers(task, accelerator)
                save_checkpoint(accelerator, folder, progress, config.keep_checkpoints)
            if leaving:
                raise InterruptedRun(
                    f"stopped after step {progress.step} of {total}; saved in {folder}; "
                    "run the same command again to go on from there"
                )
        if agreement.at_the_end(stop.arrived, progress.step):
            raise InterruptedRun(
                f"stopped after the last of {total} steps; saved in {folder}; run the same command again to go on from there"
            )
    exported = network.current()
    accelerator.free_memory()
    return exported.to(memory_format=torch.contiguous_format)  # as weights files want them


def check_alike(accelerator: Accelerator, seen: Mapping[str, str]) -> None:
    """Compare what the ranks see of files, which all have to see alike, by name. Every rank calls this.

    Raises:
        InputError: on every rank, where one of them sees something else.
    """
    of_ranks: list[dict[str, str]] = gather_object([dict(seen)])
    for name, first in of_ranks[0].items():
        for rank, of_rank in enumerate(of_ranks):
            if of_rank[name] != first:
                raise InputError(
                    f"{name}: process 0 sees {first}, process {rank} sees {of_rank[name]}; all machines need the same files, "
                    "and one run_dir that they share"
                )


def prepare_training(
    task: Task, optim: OptimConfig, config: LoopConfig, accelerator: Accelerator, heads_first: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """`task` and its optimizer as `accelerator` trains them; it may have trained others before."""
    if config.sync_batch_norm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        sync_batch_norm(task)
    if config.channels_last:
        task.to(memory_format=torch.channels_last)
    if config.compile:
        for network in task.networks():
            network.compile(dynamic=False)  # a graph for each size: those for all sizes are slower
        if task.recomputes:  # outside of DDP, which would cut the graphs of the first time only
            torch._dynamo.config.optimize_ddp = False
    task.train()
    groups = standing_still(task.parameter_groups(), task.held_first(), heads_first)
    optimizer = build_optimizer(optim.name, groups, optim.betas, fused=_fused(accelerator))
    check_layers(task, accelerator)
    if accelerator.scaler is not None:  # one of fp16 for all folds and rounds
        accelerator.scaler.load_state_dict(torch.amp.GradScaler(accelerator.device.type).state_dict())
    prepared: tuple[nn.Module, torch.optim.Optimizer] = accelerator.prepare(task, optimizer)
    if is_sharded(accelerator):
        start_moments(optimizer)
    return prepared


def _fused(accelerator: Accelerator) -> bool | None:
    """Whether AdamW is fused: not where a scaler of fp16 has to be able to skip its steps."""
    if accelerator.device.type == "cpu":
        return True
    return None if accelerator.mixed_precision == "fp16" else accelerator.device.type == "cuda"


def sync_batch_norm(task: nn.Module) -> None:
    """Let the batch norm inside `task` see the batch of all ranks. torch's own conversion would lose the activations that
    timm's EfficientNets have in their norm layers."""
    convert_sync_batchnorm(task)


def _set_schedules(optimizer: torch.optim.Optimizer, schedules: Schedules, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = schedules.lr(step, group["stands_still"]) * group["lr_scale"]
        group["weight_decay"] = schedules.weight_decay(step) if group["decays"] else 0.0


def _heed(guard: CollapseGuard, log: RunLog, progress: Progress, accelerator: Accelerator) -> None:
    """Let the guard look; note what it has seen, and stop or warn, on all ranks alike."""
    seen = guard.look(progress.step, log.lately())
    progress.collapsing_since = guard.since
    if seen is None:
        return
    log.collapse(seen)
    if guard.action == "stop":
        raise InputError(
            f"{seen}; start in another run_dir with a lower optim.lr or other settings of the method, or go on here with "
            "monitor.collapse=warn"
        )
    if accelerator.is_main_process:
        tqdm.write(f"warning: {seen}")


def _evaluated(evaluate: Evaluator, task: Task, network: WholeNetwork, compiled: bool) -> dict[str, float]:
    """What `evaluate` yields. Without compiling: each size of its batches would take longer to compile than to look at."""
    task.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            return dict(evaluate(network.current()))
    finally:
        task.train()
