"""Speed of the views: images a second of one core, decoding included, ours beside the peers' on the same images.

    python benchmarks/input.py images=isic2024-train-image.hdf5 out=runs/input
    python benchmarks/input.py images=... 'sizes=[128]' rounds=9 peer_python=peer/bin/python

`input_views.py` says what is compared with what; the loader and its processes are in `loader.py`. Each of ours and of the
peers works in one process and one thread, by its CPU time; they take turns on a block of images, in rounds, and the order
turns around with each round. A ratio is taken within a round; what is printed is the median over rounds, and the range.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from input_views import measure_views
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.images import open_store
from ssl_isic.errors import InputError, command


class InputConfig(Config):
    """Time the views of an image, ours and the peers'."""

    images: Path
    """HDF5 or folder of JPEG images."""
    out: Path = Path("runs/input")
    """Folder for the same images as files, which one peer reads."""
    sizes: list[int] = Field([64, 128, 224], min_length=1)
    """Sides of a global view, px; a local crop has half of it."""
    count: int = Field(512, ge=1)
    """Images of one block."""
    rounds: int = Field(5, ge=1)
    """Blocks of each."""
    peer_python: Path | None = None
    """Interpreter of an environment with lightly-train 0.18, as benchmarks/pretrain.py makes one; null leaves it out."""


@command
def main(argv: Sequence[str]) -> None:
    """Measure, and print a table for each method and size."""
    config = read_config(InputConfig, argv, prog="benchmarks/input.py")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    folder = write_files(config)
    measure_views(folder, config.sizes, config.count, config.rounds, config.peer_python)


def write_files(config: InputConfig) -> Path:
    """Every k-th image of `config.images`, `config.count` of them, as a folder of files."""
    store = open_store(config.images)
    if len(store.ids) < config.count:
        raise InputError(f"images: {len(store.ids)} are fewer than count={config.count}; lower it")
    folder = config.out / f"files-{config.count}"
    if not folder.is_dir():
        part = config.out / "files-part"
        part.mkdir(parents=True, exist_ok=True)
        for row in range(0, config.count * (len(store.ids) // config.count), len(store.ids) // config.count):
            (part / f"{store.ids[row].decode()}.jpg").write_bytes(store.read(row))
        part.rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
