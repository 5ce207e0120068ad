"""A pretraining whose views are made before it begins: the pure compute that benchmarks/pretrain.py compares runs with.

    accelerate launch benchmarks/ready_views.py run_dir=RUN data.sources.images=FOLDER [key=value ...]

The same configuration, task and loop as `ssl_isic/pretrain.py`; only the loader differs, which stacks views that are in
memory, in the training process. Nothing is monitored and no backbone is saved.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from ssl_isic.config import read_filled_config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import Draw, TrainingImages, steps_per_epoch
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import command
from ssl_isic.loop import build_accelerator, fit, total_steps
from ssl_isic.methods.method import RunShape
from ssl_isic.pool import Pool
from ssl_isic.pretraining import PretrainConfig


class ReadyImages(TrainingImages):
    """The samples of another dataset's first batch, made once, in place of all."""

    def __init__(self, images: TrainingImages, batch_size: int) -> None:
        super().__init__(images.pool, images.indices, images.views, images.seed)
        self._ready = [images[Draw(row, row)] for row in range(batch_size)]

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return self._ready[draw.position % len(self._ready)]


@command
def main(argv: Sequence[str]) -> None:
    """Train on the views of one batch."""
    config, _ = read_filled_config(PretrainConfig, argv, "benchmarks/ready_views.py", fill_defaults)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    pool = Pool(config.data, ImagePool(config.data.sources))
    accelerator = build_accelerator(config.loop, config.run_dir)
    set_seed(config.seed)
    rows = np.arange(len(pool.images))
    order = pool.order(rows, config.seed)
    steps = RunShape(config.views.size, steps_per_epoch(order, config.loop.batch_size), total_steps(config.loop, order))
    images = pool.dataset(rows, config.method.build_views(config.views), config.seed, config.group_columns())
    fit(
        config.method.build(config.backbone, steps),
        ReadyImages(images, config.loop.batch_size),
        order,
        accelerator=accelerator,
        config=config.loop,
        loader=LoaderConfig(workers=0),
        optim=config.optim,
        run_dir=config.run_dir,
        seed=config.seed,
        title=config.method.name,
    )


if __name__ == "__main__":
    sys.exit(main())
