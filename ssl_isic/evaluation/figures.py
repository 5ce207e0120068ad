"""Figures of a comparison: how few labels suffice, and a map of the features. PNG files, no display needed."""

import importlib.util
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ssl_isic.errors import InputError
from ssl_isic.evaluation.lesions import UNKNOWN
from ssl_isic.evaluation.neighbours import Features
from ssl_isic.evaluation.report import BACKBONE, COLOUR, Row
from ssl_isic.files import atomic_write

MapMethod = Literal["tsne", "pca", "umap"]
Floats = NDArray[np.float64]

MAP_NAMES: Mapping[MapMethod, str] = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}
MAP_ROWS = 2000
MAP_CATEGORIES = 8
LEGEND_LETTERS, LEGEND_LINES = 32, 3
MALIGNANT, BENIGN = "#c2571a", "#2b5c8a"
_COLOURS = ("#2b5c8a", "#c2571a", "#3a7d44", "#8a4f9e", "#b8860b", "#c23b5e", "#2f9c9c", "#6b4f3a")
_GREYS, _MARKERS = ("#787c82", "#a9adb3", "#54575c"), ("o", "s", "^", "D", "v")
_INK, _GRID, _FAINT = "#202226", "#e3e5e8", "#b9bdc3"
_REST, UNLABELLED = "other", "unlabelled"
_OWN_COLOURS = {"malignant": MALIGNANT, "benign": BENIGN} | dict.fromkeys((_REST, UNKNOWN, UNLABELLED), _FAINT)


def check_map_method(method: MapMethod) -> None:
    """InputError, naming the extra, when the method's library is not installed."""
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError('map=umap needs umap-learn: pip install "ssl-isic[umap]", or set map=tsne')


def few_shot_curves(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG of AUC and pAUC against the share of training groups: the mean of all draws, its interval shaded."""
    figure = _figure(11.5, 4.6, title)
    names = list(dict.fromkeys((row["name"], row["kind"]) for row in rows))
    for place, (metric, label) in enumerate((("auc", "AUC"), ("pauc", "pAUC above 80 % TPR"))):
        axes = figure.add_subplot(1, 2, place + 1)
        for (name, _), style in zip(names, _curve_styles([kind for _, kind in names]), strict=True):
            shares, low, mean, high = _band([row for row in rows if row["name"] == name], metric)
            axes.fill_between(shares, low, high, color=style["color"], alpha=0.1, linewidth=0)
            axes.plot(shares, mean, linewidth=1.8, markersize=4.5, label=name, **style)
        _style_curves(axes, rows, label)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    _save(figure, path)


def scatter_plots(
    features: Mapping[str, Features],
    colourings: Mapping[str, NDArray[np.str_]],
    path: Path,
    *,
    method: MapMethod,
    seed: int,
    title: str,
) -> None:
    """Write a PNG with a column for each name in `features` (N, D) and a row for each of `colourings` (N,).

    Raises:
        InputError: as `check_map_method`.
    """
    check_map_method(method)
    figure = _figure(4.2 * len(features) + 2.4, 3.9 * len(colourings) + 0.6, title)
    grid = figure.subplots(len(colourings), len(features), squeeze=False)
    for column, (name, values) in enumerate(features.items()):
        points = project(np.asarray(values, dtype=np.float64), method, seed)
        for row, (what, labels) in enumerate(colourings.items()):
            _scatter(grid[row, column], points, labels, name if row == 0 else "")
            if column == len(features) - 1:
                grid[row, column].legend(
                    loc="center left", bbox_to_anchor=(1.0, 0.5), title=what, fontsize=8, markerscale=2, frameon=False
                )
    _save(figure, path)


def project(features_ND: Floats, method: MapMethod, seed: int) -> Floats:
    """Features in two dimensions, (N, 2), from at most their first 50 principal components."""
    components = PCA(min(50, *features_ND.shape), random_state=seed).fit_transform(features_ND)
    if method == "pca" or components.shape[1] < 3:
        return np.pad(components, ((0, 0), (0, 2)))[:, :2]
    if method == "umap":
        from umap import UMAP  # an extra

        return np.asarray(UMAP(random_state=seed, n_jobs=1).fit_transform(components), dtype=np.float64)
    perplexity = min(30.0, (len(components) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, random_state=seed).fit_transform(components), dtype=np.float64)


def map_rows(target: Floats, seed: int, most: int = MAP_ROWS) -> NDArray[np.intp]:
    """At most `most` rows, in order: all positives, or as many as fill half of it, and negatives at random."""
    rng = np.random.default_rng(seed)
    positives, negatives = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    some = rng.permutation(positives)[: max(most // 2, most - len(negatives))]
    return np.sort(np.concatenate([some, rng.permutation(negatives)[: most - len(some)]]))


def _scatter(axes: Any, points: Floats, labels: NDArray[np.str_], title: str) -> None:
    names, counts = np.unique(labels, return_counts=True)
    common = names[np.argsort(-counts, kind="stable")][:MAP_CATEGORIES].tolist()
    shown = np.where(np.isin(labels, common), labels, _REST)
    for place, name in enumerate([*common, *([_REST] if len(names) > MAP_CATEGORIES else [])]):
        rows = shown == name  # the commonest first, so that the rare lie on top
        colour = _OWN_COLOURS.get(name, _COLOURS[place % len(_COLOURS)])
        lines = textwrap.wrap(name, LEGEND_LETTERS, max_lines=LEGEND_LINES, placeholder="…")
        label = "\n".join(lines) + f" ({rows.sum()})"
        axes.scatter(*points[rows].T, s=7, color=colour, alpha=0.75, linewidths=0, label=label)
    axes.set_title(title, fontsize=11, loc="left", parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_GRID)


def _band(rows: Sequence[Row], metric: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares, and at each the lowest end of `metric`'s intervals, its mean, and the highest end."""
    shares = sorted({row["share"] for row in rows})
    ends = (("_low", min), ("", np.mean), ("_high", max))
    low, mean, high = (
        np.array([summary([row[metric + end] for row in rows if row["share"] == share]) for share in shares])
        for end, summary in ends
    )
    return np.array(shares), low, mean, high


def _style_curves(axes: Any, rows: Sequence[Row], label: str) -> None:
    counts = {row["share"]: (row["train_groups"], row["train_positive_groups"]) for row in rows}
    axes.set_xscale("log")
    axes.set_xticks(
        sorted(counts),
        [f"{share:.0%}\n{counts[share][0]:.0f}\n({counts[share][1]:.0f})" for share in sorted(counts)],
    )
    axes.minorticks_off()
    axes.set_xlabel("share of the training groups; groups trained on (with a positive)", fontsize=9)
    axes.set_ylabel(label, fontsize=10)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _curve_styles(kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Colours for backbones, dashed greys for random networks, dotted ink for the colour numbers; markers tell alike apart."""
    styles = list[dict[str, Any]]()
    for place, kind in enumerate(kinds):
        number = kinds[:place].count(kind)
        palette, dashes = {BACKBONE: (_COLOURS, "-"), COLOUR: ((_INK,), ":")}.get(kind, (_GREYS, "--"))
        marker = _MARKERS[number % len(_MARKERS)]
        styles.append({"color": palette[number % len(palette)], "linestyle": dashes, "marker": marker})
    return styles


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=144, layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.1))
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")
