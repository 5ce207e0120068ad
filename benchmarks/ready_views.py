"""A pretraining on one batch that is on the device before it begins: the pure compute that benchmarks/pretrain.py reports.

    accelerate launch benchmarks/ready_views.py run_dir=RUN data.sources.images=FOLDER [key=value ...]

The same configuration, task and loop as `ssl_isic/pretrain.py`; only the loader differs, which hands out the same tensors at
each step. Nothing is monitored and no backbone is saved. `compute.json` in the run's folder has the floating-point operations
of the task's forward and backward passes for an image, and the most memory of a GPU that tensors took.
"""

import json
import sys
from collections.abc import Sequence
from itertools import repeat

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_isic import loop
from ssl_isic.config import read_filled_config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import DRAWN, Batch, BatchLayout, TrainingStream, steps_per_epoch, training_loader
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import command
from ssl_isic.methods.method import RunShape
from ssl_isic.pool import Pool
from ssl_isic.pretraining import PretrainConfig
from ssl_isic.task import Task
from ssl_isic.transfer import to_device

COMPUTE = "compute.json"
COUNTED_IMAGES = 8


@command
def main(argv: Sequence[str]) -> None:
    """Train on one batch."""
    config, _ = read_filled_config(PretrainConfig, argv, "benchmarks/ready_views.py", fill_defaults)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    pool = Pool(config.data, ImagePool(config.data.sources))
    accelerator = loop.build_accelerator(config.loop, config.run_dir)
    set_seed(config.seed)
    rows, no_workers = np.arange(len(pool.images)), LoaderConfig(workers=0)
    order = pool.order(rows, config.seed)
    total = loop.total_steps(config.loop, order)
    shape = RunShape(config.views.size, steps_per_epoch(order, config.loop.batch_size), total)
    images = pool.dataset(rows, config.method.build_views(config.views), config.seed, config.method.groups())
    stream = TrainingStream(order, BatchLayout(config.loop.batch_size, config.loop.accumulate, 0, 1), 0, total)
    batch = next(training_loader(images, stream, no_workers, pin_memory=False))
    flops = flops_an_image(config.method.build(config.backbone, shape), batch)
    drawn, views = batch.pop(DRAWN, None), [to_device(view, accelerator.device) for view in batch["views"]]
    batch["views"] = views if drawn is None else images.views.finished(views, drawn)
    loop.training_loader = lambda *_, **__: map(dict, repeat(batch))  # what fit() asks for batches
    loop.fit(
        config.method.build(config.backbone, shape),
        images,
        order,
        accelerator=accelerator,
        config=config.loop,
        loader=no_workers,
        optim=config.optim,
        run_dir=config.run_dir,
        seed=config.seed,
        title=config.method.name,
    )
    device_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    (config.run_dir / COMPUTE).write_text(json.dumps({"flops_an_image": flops, "device_bytes": device_bytes}))


def flops_an_image(task: Task, batch: Batch) -> float:
    """Floating-point operations of products in one forward and backward pass, two for a multiply and add."""
    few: Batch = {
        name: value[:COUNTED_IMAGES] if isinstance(value, Tensor) else [view[:COUNTED_IMAGES] for view in value]
        for name, value in batch.items()
        if name != "bad"
    }
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # whose products are counted
        task.train()(task.before_transfer(few, 0), 0)["loss"].backward()
    return float(counter.get_total_flops() / COUNTED_IMAGES)


if __name__ == "__main__":
    sys.exit(main())
