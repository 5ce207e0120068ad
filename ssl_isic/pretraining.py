"""The pretraining stage's configuration and its one piece of work: learn a backbone from a pool of images without labels."""

import hashlib
from pathlib import Path

import numpy as np
from accelerate.utils import set_seed
from pydantic import Field

from ssl_isic.backbones import BackboneConfig, check_input_size, save_backbone
from ssl_isic.config import Config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import ShuffledOrder, TrainingImages, steps_per_epoch
from ssl_isic.data.views import ViewsConfig
from ssl_isic.loop import LoaderConfig, LoopConfig, build_accelerator, fit, total_steps
from ssl_isic.methods import MethodConfig
from ssl_isic.methods.method import RunShape
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.optim import OptimConfig
from ssl_isic.run_folder import open_run, write_provenance


class PoolConfig(LoaderConfig):
    """The unlabelled images."""

    sources: dict[str, Path] = Field(min_length=1)
    """Named HDF5 files or folders of images, pooled: data.sources.NAME=PATH."""


class PretrainConfig(Config):
    """Learn a backbone from unlabelled images."""

    run_dir: Path
    """Folder of this run; the backbone is written to run_dir/backbone."""
    seed: int = Field(0, ge=0)
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


def pretrain(config: PretrainConfig) -> Path:
    """Run, or resume, a pretraining; returns the folder of the backbone. Every rank calls this."""
    pool = ImagePool(config.data.sources)
    accelerator = build_accelerator(config.loop, config.run_dir)
    if accelerator.is_main_process:
        open_run(config.run_dir, config)
        write_provenance(config.run_dir, config.seed, accelerator.num_processes, pool_hashes(pool))
    accelerator.wait_for_everyone()
    set_seed(config.seed)
    order = ShuffledOrder(len(pool), config.seed)
    steps = steps_per_epoch(order, config.loop.batch_size)
    task = config.method.build(config.backbone, RunShape(config.views.size, steps, total_steps(config.loop, order)))
    views = config.method.build_views(config.views)
    blank = np.zeros((config.views.size, config.views.size, 3), np.uint8)
    for side in {view.shape[0] for view in views(blank, seed=(0,))}:
        for network in task.networks():
            check_input_size(network, side, "views.size" if side == config.views.size else "views.local_size")
    dataset = TrainingImages(pool, np.arange(len(pool)), views, config.seed)
    fit(
        task,
        dataset,
        order,
        accelerator=accelerator,
        config=config.loop,
        loader=config.data,
        optim=config.optim,
        run_dir=config.run_dir,
        seed=config.seed,
        title=config.method.name,
    )
    folder = config.run_dir / "backbone"
    if accelerator.is_main_process:
        save_backbone(task.exported(), folder, config.views.size)
        accelerator.print(f"{len(pool)} images of {len(pool.names)} sources; the backbone is in {folder}")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


def pool_hashes(pool: ImagePool) -> dict[str, str]:
    """For each source, a hash of its ids: enough to tell one year's file from another's without reading gigabytes."""
    return {
        name: f"{len(store.ids)} ids, sha256 {hashlib.sha256(store.ids.tobytes()).hexdigest()}"
        for name, store in zip(pool.names, pool.stores, strict=True)
    }
