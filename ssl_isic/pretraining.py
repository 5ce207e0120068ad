"""The pretraining stage's configuration and its one piece of work: learn a backbone from a pool of images without labels."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Self

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from pydantic import model_validator

from ssl_isic.backbones import BackboneConfig, check_input_size, save_backbone, start_hashes
from ssl_isic.collapse import CollapseGuard
from ssl_isic.config import Config, Seed
from ssl_isic.data.images import ImagePool
from ssl_isic.data.kept_views import keep_views
from ssl_isic.data.loading import BatchLayout, Order, TrainingImages, steps_per_epoch
from ssl_isic.data.views import SeededViews, ViewsConfig
from ssl_isic.errors import InputError
from ssl_isic.loop import LoopConfig, build_accelerator, check_alike, fit, start_trackers, total_steps
from ssl_isic.methods import MethodConfig
from ssl_isic.methods.diagnostics import starts_alike
from ssl_isic.methods.method import RunShape
from ssl_isic.methods.multicrop import GLOBAL_CROPS
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.monitoring import HeldOut, Monitor, MonitorConfig, hold_out
from ssl_isic.optim import OptimConfig
from ssl_isic.pool import Pool, PoolConfig
from ssl_isic.refusals import refused_on_all
from ssl_isic.run_curves import CurvesConfig, draw_curves
from ssl_isic.run_folder import open_run, write_provenance
from ssl_isic.run_lock import training_in
from ssl_isic.task import Task

SLOW_START_STEPS = 500
"""For which signs of a collapse do not count, or longer where the learning rate rises longer, if features start alike."""


class PretrainConfig(Config):
    """Learn a backbone from unlabelled images."""

    run_dir: Path
    """Folder of this run; the backbone is written to run_dir/backbone."""
    seed: Seed = 0
    """Seed of everything random."""
    data: PoolConfig
    """The pool of images."""
    views: ViewsConfig = ViewsConfig()
    """The augmented views."""
    backbone: BackboneConfig = BackboneConfig()
    """The network that is pretrained."""
    method: MethodConfig = SimCLRConfig()
    """The self-supervised method."""
    optim: OptimConfig = OptimConfig()
    """The optimizer and its schedules."""
    loop: LoopConfig = LoopConfig()
    """Length, batch and cadence."""
    monitor: MonitorConfig = MonitorConfig()
    """What is looked at while it runs."""

    @model_validator(mode="after")
    def _tables_are_given(self) -> Self:
        wants = {f"method.not_negative={group}": True for group in self.method.groups()} | {
            f"data.second_view={self.data.second_view}": self.data.second_view != "itself",
            f"data.balance={self.data.balance}": self.data.balance != "none" and len(self.data.sources) == 1,
            f"monitor.target={self.monitor.target}": self.monitor.target is not None,
        }
        missing = [want for want, wanted in wants.items() if wanted]
        if missing and not self.data.tables:
            raise ValueError(f"{missing[0]} needs data.tables.SOURCE=CSV")
        return self

    @model_validator(mode="after")
    def _compiled_blocks_are_called(self) -> Self:
        if self.loop.compile and self.backbone.grad_checkpointing and self.method.calls_blocks:
            raise ValueError(
                f"loop.compile would do nothing for method {self.method.name}, whose blocks backbone.grad_checkpointing "
                "calls one by one; leave out one of the two"
            )
        return self

    @model_validator(mode="after")
    def _the_network_learns(self) -> Self:
        if self.optim.heads_first_epochs >= self.loop.epochs:
            raise ValueError(
                f"optim.heads_first_epochs={self.optim.heads_first_epochs:g} is all of loop.epochs={self.loop.epochs:g}, and "
                "the backbone would not learn; choose fewer"
            )
        return self


def divide(config: PretrainConfig, pool: Pool) -> tuple[HeldOut, NDArray[np.int64]]:
    """The images of the pool that are held out to look at, and those that are trained on. InputError as `hold_out`."""
    held_out = hold_out(config.monitor, pool, config.seed)
    return held_out, pool.without(np.union1d(held_out.left_out, pool.repeated))


def pretrain(config: PretrainConfig, rules: Mapping[str, str] | None = None) -> Path:
    """Run, or resume, a pretraining; returns the folder of the backbone. Every rank calls this.

    Args:
        rules: for each key that was filled in, what it follows from; printed at the start.
    """
    run = _prepared(config)
    with training_in(run.config.run_dir, run.accelerator):
        return _trained(run, rules or {})


@dataclass(frozen=True)
class _Prepared:
    """What a run is made of, with nothing written yet."""

    config: PretrainConfig
    accelerator: Accelerator
    pool: Pool
    inputs: dict[str, str]
    held_out: HeldOut
    views: SeededViews
    order: Order
    dataset: TrainingImages
    task: Task
    guard: CollapseGuard | None
    remarks: list[str]


def _prepared(config: PretrainConfig) -> _Prepared:
    """All that a run needs. InputError for what is wrong with any of it."""
    pool = Pool(config.data, ImagePool(config.data.sources, config.data.shards), config.monitor.target)
    inputs = pool.hashes() | start_hashes(config.backbone)
    held_out, trained_on = divide(config, pool)
    views = config.method.build_views(config.views)
    accelerator = build_accelerator(config.loop, config.run_dir)
    check_alike(accelerator, inputs)
    config = config.model_copy(update={"loop": config.loop.as_launched(accelerator)})
    remarks = pool.remarks(trained_on, config.method.groups())
    order = pool.order(trained_on, config.seed)
    micro_batch = _micro_batch(config.loop, len(order), accelerator)
    dataset = pool.dataset(trained_on, views, config.seed, config.method.groups())
    set_seed(config.seed)
    task = _task(config, order)
    _check_views(task, views, config)
    guard = _guard(config, task, micro_batch, steps_per_epoch(order, config.loop.batch_size))
    lines = [
        *_left_out(pool),
        *remarks,
        *_slow_starts(config, guard),
        *task.remarks(),
        held_out.remark(config.monitor, pool.images),
        f"batch {config.loop.batch_size} = micro-batch {micro_batch} x world size {accelerator.num_processes} x "
        f"accumulate {config.loop.accumulate}, on {accelerator.device.type} in "
        f"{accelerator.mixed_precision.replace('no', 'float32')}",
    ]
    return _Prepared(config, accelerator, pool, inputs, held_out, views, order, dataset, task, guard, lines)


def _trained(run: _Prepared, rules: Mapping[str, str]) -> Path:
    config, accelerator, pool = run.config, run.accelerator, run.pool
    pool.images.cache(config.data, show=accelerator.is_main_process)
    with refused_on_all(accelerator):
        if accelerator.is_main_process:
            open_run(config.run_dir, config, run.inputs)
            keep_views(config.run_dir, run.views)
            write_provenance(config.run_dir, config.seed, accelerator.num_processes, run.inputs)
    start_trackers(accelerator, config.run_dir, config)
    filled = [f"{key}={reduce(getattr, key.split('.'), config)}: {rule}" for key, rule in rules.items()]
    for line in [*run.remarks, *filled]:
        accelerator.print(line)
    accelerator.wait_for_everyone()
    pool.images.keep(run.held_out.indices)
    looks = len(run.held_out.indices) > 0
    watching = config.data.model_copy(update={"workers": 0})  # it looks at too few images to start processes for
    with _curves_to_the_end(config.run_dir, accelerator):
        network = fit(
            run.task,
            run.dataset,
            run.order,
            accelerator=accelerator,
            config=config.loop,
            loader=config.data,
            optim=config.optim,
            run_dir=config.run_dir,
            seed=config.seed,
            evaluate=Monitor(pool, run.held_out, config.views.size, watching, accelerator) if looks else None,
            evaluate_every=max(
                1, round(config.monitor.every_epochs * steps_per_epoch(run.order, config.loop.batch_size))
            ),
            evaluate_first=True,
            guard=run.guard,
            title=config.method.name,
        )
    folder = config.run_dir / "backbone"
    if accelerator.is_main_process:
        save_backbone(network, folder, config.views.size, config.data.clean)
        accelerator.print(
            f"{len(run.dataset)} images of {len(pool.images.names)} sources, {len(run.held_out.left_out)} held out; "
            f"the backbone is in {folder}"
        )
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


@contextmanager
def _curves_to_the_end(run_dir: Path, accelerator: Accelerator) -> Iterator[None]:
    """Draw the curves and close the trackers also of a run that is stopped: that is when they are wanted most."""
    try:
        yield
    except BaseException:
        for tracker in accelerator.trackers:
            tracker.finish()
        raise
    finally:
        if accelerator.is_main_process:
            with suppress(InputError):  # nothing was logged
                draw_curves(CurvesConfig(run_dir=run_dir))


def _left_out(pool: Pool) -> list[str]:
    """A line on the images that two sources have."""
    repeated = pool.repeated.size
    return [f"{repeated} images are left out: an earlier source has an image of the same isic_id"] if repeated else []


def _slow_starts(config: PretrainConfig, guard: CollapseGuard | None) -> list[str]:
    """A line on each thing by which the network learns late or less."""
    lines, stages = [], config.backbone.freeze_stages
    if stages and config.backbone.weights is None:
        lines.append(f"backbone.freeze_stages={stages}: these stages keep random weights")
    if guard is not None and guard.quiet_steps:
        lines.append(
            f"{config.backbone.model} starts with nearly the same features for all images: signs of a collapse count after "
            f"{guard.quiet_steps} steps"
        )
    return lines


def _task(config: PretrainConfig, order: Order) -> Task:
    steps = steps_per_epoch(order, config.loop.batch_size)
    return config.method.build(config.backbone, RunShape(config.views.size, steps, total_steps(config.loop, order)))


def _check_views(task: Task, views: SeededViews, config: PretrainConfig) -> None:
    size = config.views.size
    sides = [view.shape[0] for view in views(np.zeros((size, size, 3), np.uint8), seed=(0,))]
    if len(sides) == 1 and config.data.second_view != "itself":
        raise InputError(
            f"data.second_view={config.data.second_view}: method {config.method.name} takes one view of an image; leave it out"
        )
    for side in set(sides):
        check_input_size(task.exported(), side, "views.size" if side == size else "views.local_size")


def _micro_batch(config: LoopConfig, images: int, accelerator: Accelerator) -> int:
    """Images of one forward pass, of an epoch of `images`. InputError where there are too few to be compared."""
    ranks = accelerator.num_processes
    if ranks > 1 and images < 2 * ranks * config.accumulate:
        raise InputError(
            f"{images} images are too few for {ranks} processes x loop.accumulate={config.accumulate}, which take two each; "
            f"launch {max(1, images // (2 * config.accumulate))} at most"
        )
    layout = BatchLayout(config.batch_size, config.accumulate, accelerator.process_index, accelerator.num_processes)
    if layout.micro_batch < 2:
        raise InputError(
            f"loop.batch_size={config.batch_size} leaves one image for each of {accelerator.num_processes} processes x "
            f"loop.accumulate={config.accumulate}, and there is nothing to tell it from; double loop.batch_size at least"
        )
    return layout.micro_batch


def _guard(config: PretrainConfig, task: Task, micro_batch: int, steps_an_epoch: int) -> CollapseGuard | None:
    if config.monitor.collapse == "ignore":
        return None
    quiet = 0
    if starts_alike(task.exported(), config.views.size):
        quiet = max(SLOW_START_STEPS, round(config.optim.warmup_epochs * steps_an_epoch))
    return CollapseGuard(config.monitor.collapse, config.method.prototype_count(), GLOBAL_CROPS * micro_batch, quiet)
