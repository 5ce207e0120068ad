"""Everything that a run has logged, as one picture of small panels."""

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
FIRST = ("loss", "lr", "grad_norm", "images_per_s", "wait_share")


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
                axes.axvline(step, color="#b3362f", linewidth=1, linestyle="--")
            reference = references.get(name.rpartition("_")[2]) if name.startswith("held_out_") else None
            if reference is not None:
                axes.axhline(reference[-1][1], color="#202226", linewidth=1, linestyle=":", label="12 colour numbers")
                axes.legend(fontsize=7, frameon=False)
            _widen(axes)
        with atomic_write(out) as temporary:
            figure.savefig(temporary, format="png", dpi=110, facecolor="white")
    return out


def _series(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Finite numbers by name as (step, value): the general ones first, then by name."""
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, []).append((row["step"], float(value)))
    places = {name: place for place, name in enumerate(FIRST)}
    return {name: series[name] for name in sorted(series, key=lambda name: (places.get(name, len(FIRST)), name))}


def _panel(axes: Any, name: str, points: list[tuple[int, float]]) -> None:
    steps, values = np.array(points).T
    axes.plot(steps, values, color="#2f6db3", linewidth=1.4, marker="o" if len(points) < 15 else "", markersize=3)
    axes.set_title(name, loc="left")
    axes.grid(True, color="#e3e5e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _widen(axes: Any) -> None:
    low, high = axes.get_ylim()
    missing = LEAST_SPAN * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)
