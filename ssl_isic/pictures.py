"""Pictures for people: what augmentation does to a lesion, and how a run's loss went. PNG files, no display needed."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

Picture = NDArray[np.uint8]  # HWC RGB

_INK, _FAINT, _PAPER = (32, 34, 38), (120, 124, 130), (255, 255, 255)
_LOSS_COLOUR, _METRIC_COLOUR, _GRID_COLOUR = "#2b5c8a", "#c2571a", "#e3e5e8"
_VALID_METRIC = "valid/pauc"
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

    Raises `InputError` for no rows, a picture of another shape or dtype, or more heads than tiles.
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


def loss_curves(runs: Mapping[str, Path], path: Path, *, title: str = "") -> None:
    """Write a PNG with one panel a run: loss (thin as logged, thick smoothed) and `valid/pauc` (right axis) by step.

    `runs` maps a name to a `metrics.jsonl`, whose lines are objects with a whole `step` and numbers by name. Where
    a step was logged twice, as after a resume, the later line counts; values that are not finite are left out.

    Raises `InputError` for no runs, a file that is missing, or a line that is not such an object, naming file and line.
    """
    if not runs:
        raise InputError("loss_curves needs at least one run, got none")
    curves = {name: _read_metrics(log) for name, log in runs.items()}
    across = 2 if len(curves) == 4 else min(3, len(curves))
    down = math.ceil(len(curves) / across)
    figure = Figure(
        figsize=(5.0 * across, 3.4 * down + (0.4 if title else 0)),
        dpi=144,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
    )
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(_one_line(title), fontsize=14, fontweight="bold", parse_math=False)
    for i, (name, series) in enumerate(curves.items()):
        _loss_panel(figure.add_subplot(down, across, i + 1), _one_line(name), series)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")


Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps, values


def _loss_panel(axes: Any, name: str, series: Mapping[str, Curve]) -> None:
    axes.set_title(name, fontsize=11, loc="left", parse_math=False)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("loss", fontsize=9, color=_LOSS_COLOUR)
    axes.grid(True, color=_GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if "loss" in series:
        steps, loss = series["loss"]
        few = len(loss) < 10
        axes.plot(steps, loss, color=_LOSS_COLOUR, linewidth=0.8, alpha=1.0 if few else 0.35, marker="." if few else "")
        if not few:
            axes.plot(steps, _smoothed(loss), color=_LOSS_COLOUR, linewidth=2.0)
    else:
        axes.text(0.5, 0.5, "no loss logged", transform=axes.transAxes, ha="center", color="#787c82", fontsize=9)
    if _VALID_METRIC in series:
        right = axes.twinx()
        right.plot(*series[_VALID_METRIC], color=_METRIC_COLOUR, linewidth=1.4, marker="o", markersize=3.5)
        right.set_ylabel(_VALID_METRIC, fontsize=9, color=_METRIC_COLOUR)
        right.spines[["top", "left"]].set_visible(False)
        right.tick_params(labelsize=8)
        right.yaxis.set_major_locator(MaxNLocator(5))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of about a twentieth of the run; the window is cut at the ends."""
    window = np.ones(2 * max(1, len(values) // 40) + 1)
    total: NDArray[np.float64] = np.convolve(values, window, mode="same")
    return total / np.convolve(np.ones_like(values), window, mode="same")


def _read_metrics(path: Path) -> dict[str, Curve]:
    """What is drawn of a `metrics.jsonl`: the name of each series to its (steps, values), in the order of the steps."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a metrics file: {error}") from error
    series: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _read_record(line, f"{path}, line {number}")
        for name in ("loss", _VALID_METRIC):
            value = record.get(name)
            if value is None:
                continue
            if not isinstance(value, int | float):
                raise InputError(f"{path}, line {number}: {name} must be a number, got {value!r}")
            if math.isfinite(value):
                series.setdefault(name, {})[record["step"]] = float(value)
    return {name: _as_curve(points) for name, points in series.items()}


def _read_record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}); delete the line if a crash cut it short") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: must be a JSON object, got {type(record).__name__}")
    if type(record.get("step")) is not int:
        raise InputError(f"{where}: needs a whole number `step`, got {record.get('step')!r}")
    return record


def _as_curve(points: Mapping[int, float]) -> Curve:
    steps = sorted(points)
    return np.array(steps, np.float64), np.array([points[step] for step in steps], np.float64)


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
