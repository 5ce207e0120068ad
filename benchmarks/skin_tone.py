"""Whether skin-tone simulation moves the typology angle as asked, on real images: asked against measured, and a sheet.

    python benchmarks/skin_tone.py images=isic2024-train-image.hdf5 out=runs/skin-tone
    python benchmarks/skin_tone.py images=ham10000-image.hdf5 masks=ham10000-mask.hdf5 out=runs/skin-tone-ham

The angle is measured in two ways that the simulation does not know of: from the median colour of the outer eighth of the
image, and, with `masks`, from that of all pixels outside the lesion and a margin around it; both leave out a dermoscope's
black. Not counted in a row are the images that are left as they are: no skin is found, the light is too blue, or skin would
have to be lighter or darker than any is; the last column says in how many it was moved.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.contact_sheets import contact_sheet
from ssl_isic.data.augmentations.colour import Image, lab_of, linear_of
from ssl_isic.data.augmentations.skin import BLACK, RING_SHARE
from ssl_isic.data.augmentations.skin_tone import DARKEST, LIGHTEST, ita_of, set_ita, shift_ita, skin_ita
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.tables import match_ids
from ssl_isic.errors import InputError, command

MARGIN_PX = 4
ON_THE_SHEET = 12
Mask = NDArray[np.bool_]


class SkinToneConfig(Config):
    """Asked against measured angle of skin-tone simulation."""

    images: Path
    """HDF5 file or folder of images."""
    masks: Path | None = None
    """The same of lesion masks, by the same ids; null measures along the edge only."""
    out: Path = Path("runs/skin-tone")
    """Folder of the sheet."""
    count: int = Field(200, ge=1)
    """Images, a random sample."""
    angles: list[float] = [-40.0, -10.0, 10.0, 28.0, 41.0, 55.0]
    """Angles to move skin to, degrees."""
    shifts: list[float] = [-40.0, -20.0, -10.0, 10.0]
    """Angles to move skin by, degrees."""
    seed: int = 0
    """Another seed samples other images."""


@command
def main(argv: Sequence[str]) -> None:
    """Measure, print the tables and draw the sheet."""
    config = read_config(SkinToneConfig, argv, prog="benchmarks/skin_tone.py")
    images, skins = sampled(config)
    before = np.array([measured(image, skin) for image, skin in zip(images, skins, strict=True)])
    print(f"{len(images)} images; the angle of their skin: {spread(before)} (median, 5 to 95 %)\n")
    print(f"{'asked':>10} {'measured, median':>17} {'5 to 95 %':>18} {'|error|, median':>16} {'images':>7}")
    for asked in config.angles:
        after, moved = angles_after(images, skins, lambda image, asked=asked: set_ita(image, asked))
        report(f"to {asked:g}", asked, after[moved])
    own = np.array([skin_ita(image) for image in images])
    for asked in config.shifts:
        after, moved = angles_after(images, skins, lambda image, asked=asked: shift_ita(image, asked))
        fits = (own + asked <= LIGHTEST) & (own + asked >= DARKEST)
        report(f"by {asked:+g}", asked, (after - before)[moved & fits])
    tiles = [[image, *(set_ita(image, asked) for asked in config.angles)] for image in images[:ON_THE_SHEET]]
    rows = [(f"{angle:.0f} degrees", pictures) for angle, pictures in zip(before, tiles, strict=False)]
    heads = ["image", *(f"{asked:g}" for asked in config.angles)]
    contact_sheet(rows, config.out / "skin_tone.png", columns=heads, title=config.images.name, tile_px=128)


def sampled(config: SkinToneConfig) -> tuple[list[Image], list[Mask]]:
    """Images in which skin is found, and where it is in each."""
    store = open_store(config.images)
    places = np.random.default_rng(config.seed).permutation(len(store.ids))[: config.count]
    masks = open_store(config.masks) if config.masks else None
    images, skins, without = [], [], 0
    for place in places.tolist():
        image = decode_rgb(store.read(place))
        if skin_ita(image) is None:
            without += 1
            continue
        skin = along_the_edge(image)
        if masks is not None:
            row = int(match_ids([store.ids[place].decode()], masks.ids).rows[0])
            if row < 0:
                raise InputError(f"{config.masks} has no mask of {store.ids[place].decode()}")
            lesion = cv2.dilate(decode_rgb(masks.read(row))[..., 0], np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)) > 0
            skin = skin if lesion.mean() > 0.9 else ~lesion
        images.append(image)
        skins.append(skin & (image > BLACK).any(axis=2))
    print(f"no skin found in {without} of {len(places)}: left as they are")
    return images, skins


def along_the_edge(image: Image) -> Mask:
    """The ring of an eighth of each side."""
    height, width, _ = image.shape
    ring = np.ones((height, width), bool)
    down, across = round(height * RING_SHARE), round(width * RING_SHARE)
    ring[down : height - down, across : width - across] = False
    return ring


def measured(image: Image, skin: Mask) -> float:
    """The angle of the median colour of `skin`, degrees."""
    return float(ita_of(lab_of(linear_of(np.median(image[skin], axis=0) / 255))))


def angles_after(
    images: list[Image], skins: list[Mask], change: Callable[[Image], Image]
) -> tuple[NDArray[np.float64], Mask]:
    """The angle of each image's skin after `change`, and whether that changed it."""
    changed = [change(image) for image in images]
    moved = [not np.array_equal(image, after) for image, after in zip(images, changed, strict=True)]
    return np.array([measured(image, skin) for image, skin in zip(changed, skins, strict=True)]), np.array(moved)


def report(name: str, asked: float, values: NDArray[np.float64]) -> None:
    """Print a row of the table."""
    if not len(values):
        print(f"{name:>10}   no image has skin that can be moved so far")
        return
    low, middle, high = np.percentile(values, [5, 50, 95])
    error = np.median(np.abs(values - asked))
    print(f"{name:>10} {middle:17.1f} {f'{low:.1f} to {high:.1f}':>18} {error:16.1f} {len(values):7d}")


def spread(values: NDArray[np.float64]) -> str:
    """Median, 5 and 95 %."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.1f}, {low:.1f} to {high:.1f}"


if __name__ == "__main__":
    sys.exit(main())
