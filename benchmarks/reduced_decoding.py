"""What decoding at a part of the size saves, and what it does to the pixels, on real images enlarged to usual sizes.

    python benchmarks/reduced_decoding.py images=ham10000-image.hdf5

Prints two tables: milliseconds of CPU to decode an image and make its views, both ways in turns, median and range over rounds;
and how far the whole image, resized, differs from the same decoded whole and averaged over areas, in levels of 255.
"""

import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import simplejpeg
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.decoding import Shown, decode_rgb, reduction
from ssl_isic.data.images import open_store
from ssl_isic.data.shown import shown_by
from ssl_isic.data.views import SeededViews, ViewsConfig, dino_views, eval_view, simclr_views
from ssl_isic.errors import command

VIEWS: dict[str, Callable[[], SeededViews]] = {
    "2 SimCLR, 128 px": lambda: simclr_views(ViewsConfig(size=128)),
    "2 + 6 DINO, 96 and 48 px": lambda: dino_views(ViewsConfig(size=96, local_size=48), 6),
    "2 SimCLR, 224 px": lambda: simclr_views(ViewsConfig(size=224)),
}
SHOWN_PX = (64, 96, 128, 224)


class ReducedConfig(Config):
    """Compare decoding at a part of the size with decoding all."""

    images: Path
    """HDF5 file of images, enlarged to `sizes`."""
    sizes: list[tuple[int, int]] = [(600, 450), (1024, 768)]
    """Width and height, px."""
    count: int = Field(24, ge=1)
    """Images."""
    rounds: int = Field(3, ge=1)
    """Turns of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Print both tables."""
    config = read_config(ReducedConfig, argv, prog="benchmarks/reduced_decoding.py")
    cv2.setNumThreads(0)
    jpegs = {size: enlarged(config, size) for size in config.sizes}
    print("| image | views | part | full, ms | reduced, ms | full / reduced |\n| --- | --- | --- | --- | --- | --- |")
    for ((width, height), data), (name, build) in product(jpegs.items(), VIEWS.items()):
        views = build()
        shown = shown_by(views, "reduced")
        turns = [(milliseconds(views, data, ()), milliseconds(views, data, shown)) for _ in range(config.rounds)]
        ratios = [full / reduced for full, reduced in turns]
        full, reduced = (median(column) for column in zip(*turns, strict=True))
        part = f"1/{reduction(height, width, shown)}"
        spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"| {width} x {height} | {name} | {part} | {full:.2f} | {reduced:.2f} | {spread} |")
    print("\n| image | shown at, px | part | mean | 99 % are within |\n| --- | --- | --- | --- | --- |")
    for ((width, height), data), side in product(jpegs.items(), SHOWN_PX):
        view, shown = eval_view(side), (Shown(side),)
        off = [np.abs(view(decode_rgb(one, shown)).astype(int) - view(decode_rgb(one))) for one in data]
        part = f"1/{reduction(height, width, shown)}"
        print(f"| {width} x {height} | {side} | {part} | {np.mean(off):.2f} | {np.percentile(off, 99):.0f} |")


def enlarged(config: ReducedConfig, size: tuple[int, int]) -> list[bytes]:
    """Images from all over the file at `size`, as JPEGs of quality 90."""
    store = open_store(config.images)
    rows = np.linspace(0, len(store.ids) - 1, config.count).astype(int).tolist()
    whole = [cv2.resize(decode_rgb(store.read(row)), size, interpolation=cv2.INTER_CUBIC) for row in rows]
    return [simplejpeg.encode_jpeg(pixels, quality=90) for pixels in whole]


def milliseconds(views: SeededViews, data: Sequence[bytes], shown: tuple[Shown, ...]) -> float:
    """CPU time to decode one image and make its views."""
    started = time.process_time()
    for number, one in enumerate(data):
        views(decode_rgb(one, shown), (0, number))
    return (time.process_time() - started) / len(data) * 1e3


if __name__ == "__main__":
    sys.exit(main())
