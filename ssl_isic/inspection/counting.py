"""Counts of a pool: by class, clinic, sex, age and site; sizes; with what certainty a share of positives is known."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ssl_isic.inspection.annotations import AGE, Column
from ssl_isic.inspection.scanning import Records, State

Rows = NDArray[np.bool_]
MOST_SIZES = 8
SIDE_BINS = 24


class Share(NamedTuple):
    """`positives` of `labelled` images, and Wilson's 95 % interval of the share; NaN where nothing is labelled."""

    positives: int
    labelled: int
    value: float
    low: float
    high: float


class Count(NamedTuple):
    """The images that have a value."""

    value: str
    images: int
    share: Share


class Counts(NamedTuple):
    """A column's values, and how many images have none."""

    role: str
    found: dict[str, str]
    values: list[Count]
    missing: int


class Sizes(NamedTuple):
    """Sizes of the images that decode, px, and of all their files together, bytes."""

    images: int
    smallest: tuple[int, int]
    """Width and height of the image of the least area."""
    largest: tuple[int, int]
    median_side: float
    """Of the longer sides."""
    common: list[tuple[int, int, int]]
    """The most frequent sizes: width, height, images."""
    distinct: int
    side_edges: list[float]
    """Edges of the bins of the longer side, evenly spaced by its logarithm."""
    side_counts: list[int]
    total_bytes: int


def wilson(positives: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share of `positives` among `rows`, 0 to 1; NaN where there are no rows.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Raises:
        ValueError: `positives` outside 0 to `rows`.
    """
    if not 0 <= positives <= rows:
        raise ValueError(f"positives must be between 0 and {rows}, got {positives}")
    if rows == 0:
        return float("nan"), float("nan")
    z = float(norm.ppf((1 + level) / 2))
    p = positives / rows
    centre, half = p + z**2 / (2 * rows), z * np.sqrt(p * (1 - p) / rows + z**2 / (4 * rows**2))
    low, high = (centre - half) / (1 + z**2 / rows), (centre + half) / (1 + z**2 / rows)
    return (0.0 if positives == 0 else float(low)), (1.0 if positives == rows else float(high))


def share_of(target: NDArray[np.int8], rows: Rows) -> Share:
    """The share of positives among the labelled of `rows` (N,)."""
    return _share(int(np.sum(target[rows] == 1)), int(np.sum(target[rows] >= 0)))


def counts_of(role: str, column: Column, target: NDArray[np.int8], rows: Rows) -> Counts:
    """The values of `column` among `rows` (N,), ages in their order and all else the most frequent first."""
    images = column.counts(rows)
    positives, labelled = column.counts(rows & (target == 1)), column.counts(rows & (target >= 0))
    order = range(len(images)) if role == AGE else np.argsort(-images, kind="stable").tolist()
    values = [
        Count(column.values[code], int(images[code]), _share(int(positives[code]), int(labelled[code])))
        for code in order
        if images[code]
    ]
    return Counts(role, dict(column.found), values, int(np.sum(rows & (column.codes < 0))))


def _share(positives: int, labelled: int) -> Share:
    return Share(positives, labelled, positives / labelled if labelled else float("nan"), *wilson(positives, labelled))


def sizes_of(records: Records) -> Sizes | None:
    """Sizes over `records` (R,); None where none decodes."""
    fine = records[records["state"] <= State.SUSPECT]
    if not len(fine):
        return None
    width, height = fine["width"].astype(np.int64), fine["height"].astype(np.int64)
    area, side = width * height, np.maximum(width, height)
    kinds, images = np.unique(width << 32 | height, return_counts=True)
    most = np.argsort(-images, kind="stable")[:MOST_SIZES].tolist()
    edges = np.geomspace(side.min(), side.max() + 1, min(SIDE_BINS, int(side.max() - side.min()) + 1) + 1)
    return Sizes(
        len(fine),
        (int(width[area.argmin()]), int(height[area.argmin()])),
        (int(width[area.argmax()]), int(height[area.argmax()])),
        float(np.median(side)),
        [(int(kinds[at] >> 32), int(kinds[at] & 0xFFFFFFFF), int(images[at])) for at in most],
        len(kinds),
        edges.tolist(),
        np.histogram(side, edges)[0].tolist(),
        int(records["bytes"].astype(np.int64).sum()),
    )
