"""Every image through a network once: none dropped, none repeated, in order, on one process or many."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssl_isic.data.decoding import Shown
from ssl_isic.data.images import ImagePool
from ssl_isic.data.views import eval_view
from ssl_isic.data.whole_images import EvaluationImages, evaluation_loader
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.transfer import to_device

Forward = Callable[[Tensor], Tensor]
"""uint8 pixels (B, size, size, 3) to values (B, ...)."""

CPU_PIXELS = 1 << 18
"""Pixels that a CPU takes through a network at once: what many more leave behind on their way outgrows its caches."""


class Block(NamedTuple):
    """Some images that follow each other: their values (R, ...), and which could be read, bool (R,).

    The values of an image that could not be read mean nothing.
    """

    values: NDArray[np.floating]
    readable: NDArray[np.bool_]


def forward_images(
    forward: Forward,
    pool: ImagePool,
    indices: NDArray[np.int64],
    *,
    image_size: int,
    batch_size: int,
    loader: LoaderConfig,
    accelerator: Accelerator,
    cleaning: Sequence[str] = (),
    title: str | None = None,
) -> Iterator[Block]:
    """Yield the pool's images `indices` (N,) in order, of which -1 stands for an image that is not there.

    Every rank calls this, goes through a share of the images in batches of `batch_size`, and is given all of them, one
    batch of each rank at a time: no rank has to hold all N. The network must be in evaluation mode, on the accelerator's
    device. `cleaning` names what is done to each image first. `title` heads a progress bar on the main process; None
    shows none.
    """
    rank, ranks = accelerator.process_index, accelerator.num_processes
    shown = (Shown(image_size),) if loader.decode == "reduced" else ()
    images = EvaluationImages(pool, indices, eval_view(image_size), image_size, shown, cleaning)
    mine = np.arange(rank, len(indices), ranks)
    batches = evaluation_loader(images, mine, batch_size, loader, pin_memory=accelerator.device.type == "cuda")
    hidden = title is None or not accelerator.is_main_process
    with tqdm(total=len(indices), desc=title, unit="image", disable=hidden) as bar:
        for start in range(0, len(indices), batch_size * ranks):
            rows = min(batch_size * ranks, len(indices) - start)
            part = [_forward_batch(forward, next(batches), accelerator)] if rank < rows else []
            yield _interleaved(gather_object(part), rows)
            bar.update(rows)


def _forward_batch(forward: Forward, batch: dict[str, Tensor], accelerator: Accelerator) -> Block:
    images = to_device(batch["images"], accelerator.device)
    with torch.no_grad(), accelerator.autocast():
        values = torch.cat([forward(part) for part in parts_for(images)])
    return Block(values.cpu().numpy(), batch["readable"].numpy())


def parts_for(images: Tensor) -> Sequence[Tensor]:
    """Images (B, H, W, 3) in the parts, each of one image or more, in which their device is fastest."""
    if images.device.type != "cpu":
        return (images,)
    return torch.split(images, max(1, CPU_PIXELS // images[0, ..., 0].numel()))


def _interleaved(parts: list[Block], rows: int) -> Block:
    """The rows of all ranks, in order: rank r has rows r, r + ranks, r + 2 ranks, ..."""
    values = np.empty((rows, *parts[0].values.shape[1:]), parts[0].values.dtype)
    readable = np.empty(rows, bool)
    step = len(parts)
    for first, part in enumerate(parts):
        values[first::step], readable[first::step] = part
    return Block(values, readable)
