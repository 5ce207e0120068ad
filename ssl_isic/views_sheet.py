"""A picture of the views that a preset makes of a user's own images, to choose it by."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pydantic import Field

from ssl_isic.config import Config, Seed
from ssl_isic.contact_sheets import contact_sheet
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.remote import Location
from ssl_isic.data.steps.step import Image
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

GLOBAL_VIEWS, LOCAL_CROPS = 2, 2
DRAWS = 3
"""Views of each kind that are shown."""


class SheetConfig(Config):
    """Draw the views that a preset makes of images."""

    images: Location
    """HDF5 file, folder or shards of images."""
    out: Path = Path("views.png")
    """The picture."""
    views: ViewsConfig = ViewsConfig()
    """The views, as for pretraining."""
    method: Kind = "simclr"
    """Whose views; `finetune` takes the preset for fine-tuning."""
    lesions: int = Field(8, ge=1, le=100)
    """Images that are shown, spread evenly over the file."""
    seed: Seed = 0
    """Seed of the views."""


def draw_sheet(config: SheetConfig) -> Iterator[str]:
    """Write the picture, a row an image; yields a line about what is in it.

    Raises:
        InputError: images or a preset that cannot be read; no image decodes; `out` is no PNG.
    """
    if config.out.suffix.lower() != ".png":
        raise InputError(f"out={config.out} is not a PNG; write out=views.png")
    views = _BUILT[config.method](config.views.model_copy(update={"preset": _preset_of(config)}))
    rows = []
    for row, (name, image) in enumerate(_images(ImagePool({"images": config.images}), config.lesions)):
        drawn = [views(image, (config.seed, row * DRAWS + number)) for number in range(DRAWS)]
        rows.append((name, [image, *(view for same in zip(*drawn, strict=True) for view in same)]))
    if not rows:
        raise InputError(f"images={config.images}: none of {config.lesions} images looked at decodes; is it damaged?")
    kinds = [f"view {n + 1}" if n < GLOBAL_VIEWS else f"local {n + 1 - GLOBAL_VIEWS}" for n in range(len(views))]
    columns = ["image", *(kind for kind in kinds for _ in range(DRAWS))]
    title = f"{_preset_of(config)}, {config.method}: {DRAWS} draws of each view"
    contact_sheet(rows, config.out, columns=columns, title=title)
    yield f"{len(rows)} images and their views are in {config.out}"


def _images(pool: ImagePool, count: int) -> Iterator[tuple[str, Image]]:
    for index in np.unique(np.linspace(0, len(pool) - 1, count).astype(np.int64)).tolist():
        try:
            yield pool.id_of(index), decode_rgb(pool.read(index))
        except ImageDecodeError:
            continue


def _preset_of(config: SheetConfig) -> str:
    """The preset that was asked for, or the default of the method."""
    asked_for = "preset" in config.views.model_fields_set
    return config.views.preset if asked_for or config.method != "finetune" else TrainViewConfig().preset


_BUILT: dict[Kind, Callable[[ViewsConfig], SeededViews]] = {
    "simclr": simclr_views,
    "dino": lambda config: dino_views(config, LOCAL_CROPS),
    "dinov2": lambda config: dinov2_views(config, LOCAL_CROPS),
    "mae": mae_view,
    "finetune": lambda config: train_view(
        TrainViewConfig(preset=config.preset, scale=config.global_scale), config.size
    ),
}
