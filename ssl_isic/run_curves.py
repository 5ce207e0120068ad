"""What runs have logged, as pictures: all of one in small panels, and the loss of several beside each other."""

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

from ssl_isic.config import Config
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write
from ssl_isic.run_folder import read_metrics

COLUMNS = 4
PANEL_INCHES = (3.2, 2.2)
NOT_DRAWN = {"step", "epoch", "bad_images"}
REFERENCE = "held_out_colour_"
"""What begins like this is drawn in the panels of the learned features' AUC or pAUC, not in one of its own."""
LEAST_SPAN = 0.1
"""Of a panel, as a share of its largest value: less would make noise look like a climb."""
LOSS_COLOUR, METRIC_COLOUR, COLLAPSE_COLOUR, GRID_COLOUR = "#2f6db3", "#c2571a", "#b3362f", "#e3e5e8"
VALID_METRIC = "valid/pauc"
FIRST = ("loss", "lr", "grad_norm", "images_per_s", "wait_share")


Curve = Sequence[tuple[int, float]]
"""Steps, ascending, and the value at each."""


class CurvesConfig(Config):
    """Draw what a run has logged so far."""

    run_dir: Path
    """Folder of the run, or of one of its folds."""
    out: Path | None = None
    """Picture to write; null is run_dir/curves.png."""


def draw_curves(config: CurvesConfig) -> Path:
    """Draw each series of `metrics.jsonl` against the step; returns where.

    Raises:
        InputError: no metrics in `run_dir`, or none with a number.
    """
    path = config.run_dir / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"run_dir={config.run_dir}: there is no {path.name}; name the folder of a run, or of a fold")
    rows = read_metrics(path)
    series = _series(rows)
    if not series:
        raise InputError(f"{path} holds no numbers yet; wait until the run has logged a row")
    out = config.out or config.run_dir / "curves.png"
    references = {name.removeprefix(REFERENCE): series.pop(name) for name in list(series) if name.startswith(REFERENCE)}
    collapses = {row["step"]: row["collapse"] for row in rows if "collapse" in row}
    lines = math.ceil(len(series) / COLUMNS)
    with matplotlib.rc_context({"font.size": 8, "text.parse_math": False}):
        figure = Figure(figsize=(COLUMNS * PANEL_INCHES[0], lines * PANEL_INCHES[1]), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(config.run_dir.resolve().name, fontsize=11, fontweight="bold")
        figure.supxlabel("\n".join(["step", *collapses.values()]), fontsize=9)
        for place, (name, points) in enumerate(series.items()):
            axes = figure.add_subplot(lines, COLUMNS, place + 1)
            _panel(axes, name, points)
            for step in collapses:
                axes.axvline(step, color=COLLAPSE_COLOUR, linewidth=1, linestyle="--")
            reference = references.get(name.rpartition("_")[2]) if name.startswith("held_out_") else None
            if reference is not None:
                axes.axhline(reference[-1][1], color="#202226", linewidth=1, linestyle=":", label="12 colour numbers")
                axes.legend(fontsize=7, frameon=False)
            _widen(axes)
        with atomic_write(out) as temporary:
            figure.savefig(temporary, format="png", dpi=110, facecolor="white")
    return out


def loss_curves(runs: Mapping[str, Path], path: Path, title: str = "") -> None:
    """Write a PNG with one panel a run: loss (thin as logged, thick smoothed) and `valid/pauc` (right axis) by step.

    `runs` maps a name to a `metrics.jsonl`.

    Raises:
        InputError: no runs, a file that cannot be read, a line that is no row.
    """
    if not runs:
        raise InputError("loss_curves needs at least one run, got none")
    curves = {name: _series(read_metrics(log)) for name, log in runs.items()}
    across = 2 if len(curves) == 4 else min(3, len(curves))
    down = math.ceil(len(curves) / across)
    with matplotlib.rc_context({"font.size": 8, "text.parse_math": False}):
        figure = Figure(
            figsize=(5.0 * across, 3.4 * down + (0.4 if title else 0)),
            dpi=144,
            layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
        )
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(title, fontsize=14, fontweight="bold")
        for place, (name, series) in enumerate(curves.items()):
            _loss_panel(figure.add_subplot(down, across, place + 1), name, series)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", facecolor="white")


def _series(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    """Finite numbers by name, the general ones first, then by name. Of a step that stands there twice the later row counts."""
    series: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, {})[row["step"]] = float(value)
    places = {name: place for place, name in enumerate(FIRST)}
    names = sorted(series, key=lambda name: (places.get(name, len(FIRST)), name))
    return {name: sorted(series[name].items()) for name in names}


def _panel(axes: Any, name: str, points: Curve) -> None:
    steps, values = np.array(points).T
    axes.plot(steps, values, color=LOSS_COLOUR, linewidth=1.4, marker="o" if len(points) < 15 else "", markersize=3)
    axes.set_title(name, loc="left")
    _plain(axes, ticks=4)


def _widen(axes: Any) -> None:
    low, high = axes.get_ylim()
    missing = LEAST_SPAN * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _loss_panel(axes: Any, name: str, series: Mapping[str, Curve]) -> None:
    axes.set_title(name, fontsize=11, loc="left")
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("loss", fontsize=9, color=LOSS_COLOUR)
    _plain(axes, ticks=5)
    if "loss" in series:
        steps, loss = np.array(series["loss"]).T
        few = len(loss) < 10
        axes.plot(steps, loss, color=LOSS_COLOUR, linewidth=0.8, alpha=1.0 if few else 0.35, marker="." if few else "")
        if not few:
            axes.plot(steps, _smoothed(loss), color=LOSS_COLOUR, linewidth=2.0)
    else:
        axes.text(0.5, 0.5, "no loss logged", transform=axes.transAxes, ha="center", color="#787c82", fontsize=9)
    if VALID_METRIC in series:
        right = axes.twinx()
        steps, values = np.array(series[VALID_METRIC]).T
        right.plot(steps, values, color=METRIC_COLOUR, linewidth=1.4, marker="o", markersize=3.5)
        right.set_ylabel(VALID_METRIC, fontsize=9, color=METRIC_COLOUR)
        right.spines[["top", "left"]].set_visible(False)
        right.yaxis.set_major_locator(MaxNLocator(5))


def _plain(axes: Any, ticks: int) -> None:
    axes.grid(True, color=GRID_COLOUR, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of about a twentieth of the run; the window is cut at the ends."""
    window = np.ones(2 * max(1, len(values) // 40) + 1)
    total: NDArray[np.float64] = np.convolve(values, window, mode="same")
    return total / np.convolve(np.ones_like(values), window, mode="same")
