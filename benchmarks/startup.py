"""Start-up and memory with 400,000 images: a generated HDF5 in Kaggle's form, the first batch, and what the index takes.

    python benchmarks/startup.py out=runs/startup

Prints seconds from the start of the stage (imports not counted) to the first batch, and the growth of resident memory of
the training process and of a worker. Listing the names, without an index, is timed beside it.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import simplejpeg
import torch
from pydantic import Field
from torch.utils.data import get_worker_info

from ssl_isic.config import Config, read_config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import BatchLayout, Draw, ShuffledOrder, TrainingImages, TrainingStream, training_loader
from ssl_isic.data.views import ViewsConfig, simclr_views
from ssl_isic.errors import command
from ssl_isic.files import atomic_write

DISTINCT_IMAGES = 64
MIB = 1 << 20


class StartupConfig(Config):
    """Measure start-up and memory on many images."""

    out: Path = Path("runs/startup")
    """Folder of the generated file."""
    images: int = Field(400_000, ge=1000)
    """How many images."""
    batch_size: int = Field(256, ge=1)
    """Images of the batch that is waited for."""
    workers: int = Field(2, ge=0)
    """Loading processes."""


class ReportingImages(TrainingImages):
    """Training images whose `row` is replaced by the resident memory of the process that loaded them, bytes."""

    def __getitem__(self, draw: Draw) -> dict[str, object]:
        assert get_worker_info() is not None
        return {**super().__getitem__(draw), "row": resident_bytes()}


@command
def main(argv: Sequence[str]) -> None:
    """Generate the file if it is not there, then measure."""
    config = read_config(StartupConfig, argv, prog="benchmarks/startup.py")
    path = config.out / f"images-{config.images}.hdf5"
    if not path.exists():
        generate(path, config.images)
    before = resident_bytes()
    started = time.perf_counter()
    with h5py.File(path, "r") as file:
        listed = sum(1 for _ in file)
    listing_s = time.perf_counter() - started
    started = time.perf_counter()
    pool = ImagePool({"generated": path})
    opened_s = time.perf_counter() - started
    order = ShuffledOrder(len(pool), seed=0)
    dataset = ReportingImages(pool, np.arange(len(pool)), simclr_views(ViewsConfig(size=64)), seed=0)
    stream = TrainingStream(order, BatchLayout(config.batch_size), 0, 100)
    batch = next(iter(training_loader(dataset, stream, config.workers, "fork", pin_memory=False)))
    first_batch_s = time.perf_counter() - started
    index_bytes = sum(store.ids.nbytes for store in pool.stores)
    print(f"{listed} images, {path.stat().st_size / MIB:.0f} MiB; HDF5's own listing of the names: {listing_s:.1f} s")
    print(f"pool opened after {opened_s:.1f} s, first batch of {config.batch_size} after {first_batch_s:.1f} s")
    grown_MiB = (resident_bytes() - before) / MIB
    worker_MiB = (int(batch["row"].max()) - int(batch["row"].min())) / MIB
    print(f"index: {index_bytes / MIB:.1f} MiB; the training process grew by {grown_MiB:.0f} MiB resident,")
    print(f"a worker by {worker_MiB:.0f} MiB from its first image to its last")


def generate(path: Path, images: int) -> None:
    """Write `images` scalar datasets of JPEG bytes, as Kaggle's file has them."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(61, 200, DISTINCT_IMAGES)
    jpegs = [np.bytes_(simplejpeg.encode_jpeg(rng.integers(0, 255, (s, s, 3), np.uint8), quality=5)) for s in sizes]
    numbers = np.sort(rng.choice(10_000_000, images, replace=False))
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for count, number in enumerate(numbers.tolist()):
            file.create_dataset(f"ISIC_{number:07d}", data=jpegs[count % DISTINCT_IMAGES])


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
