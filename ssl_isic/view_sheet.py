"""`ssl-isic views`: what a preset of views makes of the user's own images, to choose or to write one by."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from ssl_isic.config import Config
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.data.store import JpegStore
from ssl_isic.data.tables import match_ids
from ssl_isic.data.view_presets import Kind
from ssl_isic.data.views import (
    SeededViews,
    TrainViewConfig,
    ViewsConfig,
    dino_views,
    dinov2_views,
    mae_view,
    simclr_views,
    train_view,
)
from ssl_isic.errors import InputError
from ssl_isic.pictures import Picture, contact_sheet


class ViewSheetConfig(Config):
    """Draw the views that a preset makes of images. Nothing is trained."""

    images: Path
    """HDF5 file or folder of images."""
    views: ViewsConfig = ViewsConfig()
    """The preset, and the sizes."""
    kind: Kind = "simclr"
    """Whose views: simclr, dino, dinov2, mae or finetune."""
    local_crops: int = Field(4, ge=0)
    """Local crops of DINO's and DINOv2's views."""
    draws: int = Field(3, ge=1)
    """How often the views of an image are drawn."""
    ids: list[str] | None = None
    """Which images; null draws some."""
    rows: int = Field(10, ge=1)
    """How many images to draw where `ids` names none."""
    tile_px: int = Field(112, ge=32)
    """Side of a picture on the sheet, px."""
    seed: int = Field(0, ge=0)
    """Another seed draws other images and other views."""
    out: Path = Path("views.png")
    """The PNG to write."""


def draw_views(config: ViewSheetConfig) -> int:
    """Write the sheet; returns how many images are on it.

    Raises:
        InputError: a wrong preset; images that cannot be read; an id without an image; no image that decodes.
    """
    views, store = _views_of(config), open_store(config.images)
    wanted = len(config.ids) if config.ids is not None else config.rows
    rows = list[tuple[str, list[Picture]]]()
    for name, image in _decoded(config, store):
        seeds = [(config.seed, len(rows), draw) for draw in range(config.draws)]
        rows.append((name, [image, *(view for seed in seeds for view in views(image, seed))]))
        if len(rows) == wanted:
            break
    if not rows:
        raise InputError(f"none of the images asked for in {config.images} decodes; is the file damaged?")
    heads = [f"view {number + 1}" for number in range(len(views))] if len(views) > 1 else ["view"]
    contact_sheet(
        rows,
        config.out,
        columns=["image", *(heads * config.draws)],
        title=f"Views: preset {config.views.preset}, {config.kind}, {config.views.size} px",
        tile_px=config.tile_px,
    )
    return len(rows)


def _views_of(config: ViewSheetConfig) -> SeededViews:
    views = config.views
    makers: dict[Kind, Callable[[], SeededViews]] = {
        "simclr": lambda: simclr_views(views),
        "dino": lambda: dino_views(views, config.local_crops),
        "dinov2": lambda: dinov2_views(views, config.local_crops),
        "mae": lambda: mae_view(views),
        "finetune": lambda: train_view(TrainViewConfig(preset=views.preset, scale=views.global_scale), views.size),
    }
    return makers[config.kind]()


def _decoded(config: ViewSheetConfig, store: JpegStore) -> Iterator[tuple[str, Picture]]:
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
