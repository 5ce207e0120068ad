"""Speed of the augmentations of the domain: images a second of one core, by its CPU time, at the sizes of views.

    python benchmarks/augmentations.py images=isic2024-train-image.hdf5

Real images, resized; the functions take turns on blocks of all of them, in rounds. Beside them OpenCV's conversion to Lab and
back, and albumentations' own elastic deformation and dropout of boxes. Printed is the median over rounds, and the range.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer release

import albumentations as A
import cv2
import numpy as np
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.augmentations.colour import Image
from ssl_isic.data.augmentations.elastic import deformed, elastic_places
from ssl_isic.data.augmentations.fourier_style import fourier_style, low_amplitudes
from ssl_isic.data.augmentations.hair import add_hair
from ssl_isic.data.augmentations.microscope_border import add_microscope_border
from ssl_isic.data.augmentations.reinhard import LabStatistics, reinhard
from ssl_isic.data.augmentations.ruler import add_ruler
from ssl_isic.data.augmentations.skin_tone import set_ita, shift_ita
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.steps.crop import resized
from ssl_isic.data.steps.dropout import CoarseDropout
from ssl_isic.data.workers import use_one_thread
from ssl_isic.errors import command


class AugmentationsConfig(Config):
    """Time the augmentations of the domain."""

    images: Path
    """HDF5 file or folder of images."""
    sizes: list[int] = [64, 128, 224]
    """Sides, px."""
    count: int = Field(100, ge=1)
    """Images of one block."""
    rounds: int = Field(5, ge=1)
    """Blocks of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Measure and print a table."""
    config = read_config(AugmentationsConfig, argv, prog="benchmarks/augmentations.py")
    use_one_thread()
    store = open_store(config.images)
    places = np.random.default_rng(0).permutation(len(store.ids))[: config.count].tolist()
    whole = [decode_rgb(store.read(place)) for place in places]
    rows = defaultdict(list[str])
    for size in config.sizes:
        for name, speeds in measured([resized(image, size) for image in whole], config.rounds).items():
            rows[name].append(f"{median(speeds):8,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})")
    print(f"{'images/s of one core':<26}" + "".join(f"{f'{size} px':>28}" for size in config.sizes))
    for name, cells in rows.items():
        print(f"{name:<26}" + "".join(f"{cell:>28}" for cell in cells))


def measured(images: list[Image], rounds: int) -> dict[str, list[float]]:
    """Images a second by name, one figure a round."""
    functions, speeds = functions_on(images[0]), defaultdict(list[float])
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.process_time()
            for image in images:
                function(image)
            speeds[name].append(len(images) / (time.process_time() - started))
    return dict(speeds)


def functions_on(other: Image) -> dict[str, Callable[[Image], object]]:
    """What is timed; `other` is the image that styles are taken from."""
    rng = np.random.default_rng(0)
    amplitudes, style = low_amplitudes(other, 1), LabStatistics((160.0, 143.0, 145.0), (10.0, 3.0, 3.0))
    boxes = CoarseDropout()
    peer_elastic, peer_boxes = A.ElasticTransform(alpha=30, sigma=6, p=1), A.CoarseDropout((1, 4), p=1)
    return {
        "skin tone, by": lambda image: shift_ita(image, rng.uniform(-30, 10)),
        "skin tone, to": lambda image: set_ita(image, rng.uniform(-40, 60)),
        "hair": lambda image: add_hair(image, rng),
        "ruler": lambda image: add_ruler(image, rng),
        "microscope border": lambda image: add_microscope_border(image, rng),
        "elastic": lambda image: deformed(image, elastic_places(rng, *image.shape[:2])),
        "coarse dropout": lambda image: boxes.apply(image, boxes.draw(rng, *image.shape[:2])),
        "Fourier style": lambda image: fourier_style(image, amplitudes, 0.5),
        "Reinhard style": lambda image: reinhard(image, style, 0.5),
        "OpenCV: to Lab and back": lambda image: cv2.cvtColor(
            cv2.cvtColor(image, cv2.COLOR_RGB2LAB), cv2.COLOR_LAB2RGB
        ),
        "albumentations: elastic": lambda image: peer_elastic(image=image),
        "albumentations: boxes": lambda image: peer_boxes(image=image),
    }


if __name__ == "__main__":
    sys.exit(main())
