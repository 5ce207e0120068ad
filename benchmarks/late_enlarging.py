"""What it saves, and changes, to enlarge a crop after its colours are changed and not before, on real lesions.

    python benchmarks/late_enlarging.py images=isic2024-train-image.hdf5

Two SimCLR views of the presets `paper` and `lesion`, as `View` makes them and with every step in the order in which it is
written: CPU time of one core without decoding, in turns, median and range of the ratios; and how far apart the px are, in
levels of 255.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.steps.step import Image
from ssl_isic.data.views import SeededViews, View, ViewsConfig, simclr_views
from ssl_isic.errors import command


class EnlargingConfig(Config):
    """Compare views whose crops are enlarged late with views whose crops are enlarged first."""

    images: Path
    """HDF5 or folder of JPEG images."""
    sizes: list[int] = [64, 128, 224]
    """Sides of a view, px."""
    count: int = Field(256, ge=1)
    """Images."""
    rounds: int = Field(5, ge=1)
    """Turns of each."""


class InOrder(View):
    """A view whose steps are taken in the order in which they are written."""

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        for step in self.steps:
            height, width, _ = image.shape
            parameters = step.sampled(rng, height, width)
            if parameters is not None:
                image = step.apply(image, parameters)
        return image


@command
def main(argv: Sequence[str]) -> None:
    """Measure, and print a table."""
    config = read_config(EnlargingConfig, argv, prog="benchmarks/late_enlarging.py")
    cv2.setNumThreads(0)
    store = open_store(config.images)
    images = [decode_rgb(store.read(row)) for row in range(0, len(store.ids), max(1, len(store.ids) // config.count))]
    print("| preset | px | us a view, in order | late | in order / late | mean | 99 % are within | 99.9 % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for preset in ("paper", "lesion"):
        for size in config.sizes:
            late = simclr_views(ViewsConfig(preset=preset, size=size))
            in_order = SeededViews([InOrder(view.steps) for view in late.views])
            print(
                f"| {preset} | {size} | {_times(late, in_order, images, config.rounds)} | {_apart(late, in_order, images)} |"
            )


def _times(late: SeededViews, in_order: SeededViews, images: Sequence[Image], rounds: int) -> str:
    pairs = []
    for number in range(rounds):
        both = (in_order, late) if number % 2 == 0 else (late, in_order)
        taken = {views: _microseconds(views, images) for views in both}
        pairs.append((taken[in_order], taken[late]))
    ratios = [first / second for first, second in pairs]
    first, second = (median(column) for column in zip(*pairs, strict=True))
    return f"{first:.0f} | {second:.0f} | {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def _microseconds(views: SeededViews, images: Sequence[Image]) -> float:
    """CPU time of one view."""
    started = time.process_time()
    for number, image in enumerate(images):
        views(image, (0, number))
    return (time.process_time() - started) / (len(images) * len(views)) * 1e6


def _apart(late: SeededViews, in_order: SeededViews, images: Sequence[Image]) -> str:
    apart: list[NDArray[np.int16]] = []
    for number, image in enumerate(images):
        for one, other in zip(late(image, (0, number)), in_order(image, (0, number)), strict=True):
            apart.append(np.abs(one.astype(np.int16) - other).ravel())
    levels = np.concatenate(apart)
    return f"{levels.mean():.2f} | {np.quantile(levels, 0.99):.0f} | {np.quantile(levels, 0.999):.0f}"


if __name__ == "__main__":
    sys.exit(main())
