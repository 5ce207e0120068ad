"""What the search for near-duplicates finds of images that were changed, and in files as they are; and what it costs.

    python benchmarks/near_duplicates.py images=ham10000-image.hdf5 table=ham10000-metadata.csv
    python benchmarks/near_duplicates.py images=isic2024-train-image.hdf5

Found is what `ssl-isic folds` and `leaks` find by default. With a table that names lesions, pairs are told apart by whether
both images are of one. The search is timed on hashes that lie as close together as those of real images: each is one of
theirs with a fifth of its bits drawn anew. Comparing all with all is timed on `compared` of them, and counted up.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import (
    CORRELATION,
    DISTANCE,
    Copies,
    Hashes,
    close_pairs,
    correlations,
    perceptual_hashes,
    small_copies,
    small_copy,
)
from ssl_isic.data.steps.step import Image
from ssl_isic.data.tables import read_table
from ssl_isic.errors import command
from ssl_isic.evaluation.report import markdown

WIDER_DISTANCE = 11
BITS, DRAWN_ANEW = 64, 0.2


class NearDuplicatesBenchmark(Config):
    """Find near-duplicates of changed images."""

    images: Path
    """HDF5 file or folder of images."""
    table: Path | None = None
    """CSV of their `isic_id` and `lesion_id`; null tells no pairs apart."""
    changed: int = Field(1500, ge=1)
    """Images that are changed, a random sample."""
    hashes: int = Field(400_000, ge=2)
    """Hashes that are searched."""
    compared: int = Field(20_000, ge=2)
    """Of these, how many are compared all with all."""
    workers: int = Field(2, ge=0)
    """Processes that read."""
    seed: int = 0
    """Another seed changes other images."""


def encoded(image: Image, quality: int) -> Image:
    """The image after JPEG."""
    return decode_rgb(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality))


def resized(image: Image, width: int, height: int) -> Image:
    """The image at another size."""
    shrinks = width < image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def scaled(image: Image, factor: float) -> Image:
    """The image with its sides times `factor`."""
    height, width = image.shape[:2]
    return resized(image, round(width * factor), round(height * factor))


def brighter(image: Image) -> Image:
    """The image in more light."""
    return (image * 1.15).clip(0, 255).astype(np.uint8)


def cropped(image: Image, share: float) -> Image:
    """The image without `share` of its height and width at each side, in whole px."""
    y, x = (round(share * side) for side in image.shape[:2])
    return image[y : image.shape[0] - y, x : image.shape[1] - x]


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG quality 50": lambda image: encoded(image, 50),
    "half the size, quality 85": lambda image: encoded(scaled(image, 0.5), 85),
    "three times the size, quality 90": lambda image: encoded(scaled(image, 3), 90),
    "64 x 64 px, quality 90": lambda image: encoded(resized(image, 64, 64), 90),
    "28 x 28 px": lambda image: resized(image, 28, 28),
    "15 % brighter, quality 90": lambda image: encoded(brighter(image), 90),
    "1 % cropped off each side": lambda image: cropped(image, 0.01),
    "2 % cropped off each side": lambda image: cropped(image, 0.02),
    "3 % cropped off each side": lambda image: cropped(image, 0.03),
}


@command
def main(argv: Sequence[str]) -> None:
    """Change, search, time; print the tables."""
    config = read_config(NearDuplicatesBenchmark, argv, prog="benchmarks/near_duplicates.py")
    pool = ImagePool({"images": config.images})
    _print_found_again(config, pool)
    copies = small_copies(pool, np.arange(len(pool)), config.workers)
    _print_as_they_are(config, pool, copies)
    _print_cost(config, perceptual_hashes(copies))


def _print_found_again(config: NearDuplicatesBenchmark, pool: ImagePool) -> None:
    sample = np.random.default_rng(config.seed).permutation(len(pool))[: config.changed]
    images = [decode_rgb(pool.read(int(index))) for index in sample]
    before = np.stack([small_copy(image) for image in images])
    rows = []
    for name, change in CHANGES.items():
        after = np.stack([small_copy(change(image)) for image in images])
        rows.append([name, f"{100 * _same_picture(before, after).mean():.1f}"])
    print(f"Of {len(images)} images, changed, found again (%)\n\n{markdown(['change', config.images.stem], rows)}\n")


def _same_picture(before: Copies, after: Copies) -> NDArray[np.bool_]:
    """Whether each image (N,) is a near-duplicate of what was made of it."""
    bits = np.bitwise_count(perceptual_hashes(before) ^ perceptual_hashes(after))
    own = np.stack([np.arange(len(before)), np.arange(len(before)) + len(before)], axis=1)
    alike = correlations(np.concatenate([before, after]), own)
    near: NDArray[np.bool_] = (bits <= DISTANCE) & (alike >= CORRELATION)
    return near


def _print_as_they_are(config: NearDuplicatesBenchmark, pool: ImagePool, copies: Copies) -> None:
    lesion = None
    if config.table is not None:
        table = read_table(config.table).set_index("isic_id")
        lesion = table.loc[[pool.id_of(index) for index in range(len(pool))], "lesion_id"].to_numpy(str)
    hashes, rows = perceptual_hashes(copies), [["pairs of images", f"{len(pool) * (len(pool) - 1) // 2:,}"]]
    for distance, flips in ((DISTANCE, False), (WIDER_DISTANCE, False), (DISTANCE, True)):
        pairs = close_pairs(hashes, distance, flips)
        found = pairs[correlations(copies, pairs, flips) >= CORRELATION]
        named = f"within {distance} bits{', with flips' if flips else ''}"
        rows.append([f"hashes {named}", f"{len(pairs):,}"])
        rows.append([f"of these, details correlate by {CORRELATION}", _counted(found, lesion)])
    print(f"{markdown(['in the file as it is', config.images.stem], rows)}\n")


def _counted(pairs: NDArray[np.int64], lesion: NDArray[np.str_] | None) -> str:
    if lesion is None or not len(pairs):
        return str(len(pairs))
    of_one = int((lesion[pairs[:, 0]] == lesion[pairs[:, 1]]).sum())
    return f"{len(pairs)}: {of_one} of one lesion, {len(pairs) - of_one} of two"


def _print_cost(config: NearDuplicatesBenchmark, real: Hashes) -> None:
    rng = np.random.default_rng(config.seed)
    theirs = real[rng.integers(len(real), size=config.hashes)]
    bits = rng.random((config.hashes, BITS)) < DRAWN_ANEW / 2  # half of the bits that are drawn anew stay
    flipped = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    hashes = theirs ^ flipped
    started = time.process_time()
    found = len(close_pairs(hashes, DISTANCE))
    ours = time.process_time() - started
    few, started = hashes[: config.compared], time.process_time()
    for row, value in enumerate(few):
        np.flatnonzero(np.bitwise_count(few[row + 1 :] ^ value) <= DISTANCE)
    all_with_all = (time.process_time() - started) * (config.hashes / config.compared) ** 2
    print(
        f"{config.hashes:,} hashes, {found:,} pairs within {DISTANCE} bits: {ours:.1f} s of CPU; "
        f"all with all, counted up from {config.compared:,}: {all_with_all:.0f} s, {all_with_all / ours:.0f} times as long"
    )


if __name__ == "__main__":
    sys.exit(main())
