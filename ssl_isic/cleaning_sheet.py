"""`ssl-isic clean`: what cleaning does to the user's own images, before and after side by side, to choose it by."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from ssl_isic.config import Config, Seed
from ssl_isic.contact_sheets import Picture, contact_sheet
from ssl_isic.data.cleaning import CleanNames, clean
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.store import JpegStore
from ssl_isic.data.tables import match_ids
from ssl_isic.errors import InputError

OUTLINE_RGB = (0, 200, 255)
TOGETHER = "all, in order"


class CleanConfig(Config):
    """Draw images before and after cleaning: each function alone, then all in order. No image is written to."""

    images: Path
    """HDF5 file or folder of images."""
    clean: CleanNames = Field(["border", "hair", "ruler", "ink", "bubbles", "shades_of_gray", "clahe"], min_length=1)
    """What to show, in order; the same list is what data.clean=[...] of a training takes."""
    ids: list[str] | None = None
    """Which images; null draws some."""
    rows: int = Field(12, ge=1)
    """How many images to draw where `ids` names none."""
    masks: Path | None = None
    """HDF5 file or folder of lesion masks by the same ids, whose outlines are drawn on the images before cleaning."""
    tile_px: int = Field(160, ge=32)
    """Side of a picture on the sheet, px."""
    seed: Seed = 0
    """Another seed draws other images."""
    out: Path = Path("cleaning.png")
    """The PNG to write."""


def draw_sheet(config: CleanConfig) -> str:
    """Write the sheet; returns a table of how many of its images each function changes.

    Raises:
        InputError: images or masks that cannot be read; an id without an image; no image that decodes.
    """
    store = open_store(config.images)
    masks = None if config.masks is None else open_store(config.masks)
    steps = {name: [name] for name in config.clean}
    if len(steps) > 1:
        steps[TOGETHER] = config.clean
    rows, changes = list[tuple[str, list[Picture]]](), {name: list[float]() for name in steps}
    wanted = len(config.ids) if config.ids is not None else min(config.rows, len(store.ids))
    with tqdm(total=wanted, desc="clean", unit="image") as bar:
        for name, image in _decoded(config, store):
            cleaned = [clean(image, names) for names in steps.values()]
            before = image if masks is None else _outlined(image, masks, name)
            rows.append((name, [_fitted(picture, config.tile_px) for picture in (before, *cleaned)]))
            for step, after in zip(steps, cleaned, strict=True):
                changes[step].append(_share_changed(image, after))
            bar.update()
            if len(rows) == wanted:
                break
    if not rows:
        raise InputError(f"none of the images asked for in {config.images} decodes; is the file damaged?")
    title = f"Before and after cleaning: {len(rows)} images of {config.images.name}"
    contact_sheet(rows, config.out, columns=["before", *steps], title=title, tile_px=config.tile_px)
    return _table(changes)


def _decoded(config: CleanConfig, store: JpegStore) -> Iterator[tuple[str, Picture]]:
    """The images asked for, in order, or all in random order; one that does not decode is named and left out."""
    places = np.random.default_rng(config.seed).permutation(len(store.ids))
    if config.ids is not None:
        match = match_ids(config.ids, store.ids)
        if match.missing:
            raise InputError(f"ids: {config.images} has no image {match.missing[0]}; check the id")
        places = match.rows
    for place in places.tolist():
        name = store.ids[place].decode()
        try:
            yield name, decode_rgb(store.read(place))
        except ImageDecodeError as error:
            print(f"{name} does not decode ({error}) and is left out")


def _outlined(image: Picture, masks: JpegStore, name: str) -> Picture:
    """The image with the outline of its lesion; without, where it has no mask."""
    row = int(match_ids([name], masks.ids).rows[0])
    if row < 0:
        return image
    height, width = image.shape[:2]
    try:
        mask = decode_rgb(masks.read(row))[..., 0]
    except ImageDecodeError as error:
        raise InputError(f"masks: {name} does not decode ({error}); give another file of masks") from None
    inside = (cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined: Picture = cv2.drawContours(
        image.copy(), outlines, -1, OUTLINE_RGB, max(1, round(max(height, width) / 250))
    )
    return outlined


def _fitted(picture: Picture, size: int) -> Picture:
    """The picture with its longer side at `size`, so that before and after fill a tile alike."""
    height, width = picture.shape[:2]
    share = size / max(height, width)
    method = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
    fitted: Picture = cv2.resize(
        picture, (max(1, round(width * share)), max(1, round(height * share))), interpolation=method
    )
    return fitted


def _share_changed(before: Picture, after: Picture) -> float:
    """Share of the pixels that differ; 1 where the shape does."""
    return float(np.any(before != after, axis=2).mean()) if before.shape == after.shape else 1.0


def _table(changes: dict[str, list[float]]) -> str:
    lines = [f"{'':<16} {'images changed':>14} {'pixels changed there':>21}"]
    for name, of_step in changes.items():
        shares: NDArray[np.float64] = np.array(of_step)
        changed = shares[shares > 0]
        mean = f"{changed.mean():.2%}" if changed.size else "-"
        lines.append(f"{name:<16} {f'{changed.size} of {shares.size}':>14} {mean:>21}")
    return "\n".join(lines)
