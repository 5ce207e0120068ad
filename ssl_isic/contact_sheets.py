"""Contact sheets: a row of pictures a lesion, as one PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

Picture = NDArray[np.uint8]  # HWC RGB

_INK, _FAINT, _PAPER = (32, 34, 38), (120, 124, 130), (255, 255, 255)
_MARGIN, _GAP = 18, 6
_LABEL_PX = 240  # a longer label is cut


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Picture]]],
    path: Path,
    *,
    columns: Sequence[str] = (),
    title: str = "",
    tile_px: int = 96,
) -> None:
    """Write a PNG with one row a lesion: its label, then its pictures, the original first and its views after.

    Pictures are HWC uint8 RGB of any size. An original is fitted to a tile of `tile_px`. All views share one scale,
    at which the largest of them fills a tile, so a local crop of half the side is drawn half as large. `columns`
    heads the tiles.

    Raises:
        InputError: no rows, a picture of another shape or dtype, more heads than tiles.
    """
    _check_sheet(rows, columns, tile_px)
    tiles = max(len(pictures) for _, pictures in rows)
    largest_view = max((max(view.shape[:2]) for _, pictures in rows for view in pictures[1:]), default=1)
    body, bold = _font(13), _font(13, bold=True)
    labels = [_shortened(label, body, _LABEL_PX) for label, _ in rows]
    left = _MARGIN + math.ceil(max(body.getlength(label) for label in labels)) + 2 * _GAP
    top = _MARGIN + (32 if title else 0) + (22 if columns else 0)
    # A wider gap sets the original apart from its views.
    lefts = [left + i * (tile_px + _GAP) + (2 * _GAP if i else 0) for i in range(tiles)]

    heading = _font(17, bold=True)
    width = max(lefts[-1] + tile_px + _MARGIN, math.ceil(heading.getlength(title)) + 2 * _MARGIN)
    height = top + len(rows) * (tile_px + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 4), _one_line(title), _INK, heading)
    for x, head in zip(lefts, columns, strict=False):
        text = _shortened(head, bold, tile_px)
        draw.text((x + tile_px / 2, top - 12), text, _FAINT, bold, anchor="mm")
    for row, (label, (_, pictures)) in enumerate(zip(labels, rows, strict=True)):
        y = top + row * (tile_px + _GAP)
        draw.text((left - 2 * _GAP, y + tile_px / 2), label, _INK, body, anchor="rm")
        for i, picture in enumerate(pictures):
            full_px = largest_view if i else max(picture.shape[:2])
            drawn = _scaled(picture, tile_px / full_px)
            sheet.paste(drawn, (lefts[i] + (tile_px - drawn.width) // 2, y + (tile_px - drawn.height) // 2))
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="PNG")


def _check_sheet(rows: Sequence[tuple[str, Sequence[Picture]]], columns: Sequence[str], tile_px: int) -> None:
    if tile_px < 8:
        raise InputError(f"tile_px must be 8 or more, got {tile_px}")
    tiles = max((len(pictures) for _, pictures in rows), default=0)
    if tiles == 0:
        raise InputError("a contact sheet needs at least one row with a picture, got none")
    if len(columns) > tiles:
        raise InputError(f"the contact sheet has {tiles} tiles a row but {len(columns)} column heads")
    for label, pictures in rows:
        for i, picture in enumerate(pictures):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
                got = f"{picture.dtype} {picture.shape}"
                raise InputError(f"picture {i} of {label!r} must be HWC uint8 RGB, got {got}")


def _scaled(picture: Picture, factor: float) -> Image.Image:
    height, width = picture.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS)


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib carries DejaVu with it, so the sheet looks the same on a machine without fonts.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str, font: ImageFont.FreeTypeFont, width_px: float) -> str:
    text = _one_line(text)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}…") > width_px:
        text = text[:-1]
    return f"{text}…"
