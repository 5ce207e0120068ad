"""The ticks of a ruler or of a dermoscope's scale, painted over."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning.lines import darkness
from ssl_isic.data.cleaning.pixels import Image, Mask, filled, odd, side_of, working_copy

WIDTH, LONGEST, SLIMNESS = 0.03, 0.2, 2.0
DARK = 14
LEAST_TICKS = 5
ANGLE, SPACING = np.deg2rad(12), 0.25


def remove_ruler(image: Image) -> Image:
    """The image without the ticks of a scale, painted over from beside them; itself where there is none."""
    return filled(image, ruler_mask(working_copy(image)))


def ruler_mask(image: Image) -> Mask:
    """Where five or more thin dark dashes stand side by side, parallel and evenly spaced."""
    side = side_of(image)
    dark = (darkness(image, odd(WIDTH * side, 5)) >= DARK).astype(np.uint8)
    count, labels = cv2.connectedComponents(dark, connectivity=8)
    numbers, dashes = _dashes(labels, count, side)
    ticks = np.zeros(count, bool)
    for row in evenly_spaced(dashes):
        ticks[numbers[row]] = True
    return cv2.dilate(ticks[labels].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def _dashes(labels: NDArray[np.int32], count: int, side: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The components that are straight and slim: their numbers (K,), and their x, y, angle and length (K, 4)."""
    rows = list[tuple[int, float, float, float, float]]()
    order = np.argsort(labels, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=count))
    for number in range(1, count):
        places = order[ends[number - 1] : ends[number]]
        if len(places) < 3:
            continue
        points = np.stack([places % labels.shape[1], places // labels.shape[1]], axis=1).astype(np.float32)
        (x, y), (width, height), angle = cv2.minAreaRect(points)
        long, short = max(width, height) + 1, min(width, height) + 1
        if long <= LONGEST * side and long >= SLIMNESS * short:
            turned = np.deg2rad(angle) + (np.pi / 2 if height > width else 0)
            rows.append((number, x, y, turned % np.pi, long))
    table = np.array(rows, np.float64).reshape(-1, 5)
    return table[:, 0].astype(np.int64), table[:, 1:]


def evenly_spaced(dashes: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The rows of dashes (K, 4: x, y, angle, length) that form a scale, each scale as the numbers of its dashes."""
    scales = list[NDArray[np.int64]]()
    for x, y, angle, length in dashes:
        turn = np.abs((dashes[:, 2] - angle + np.pi / 2) % np.pi - np.pi / 2)
        along = (dashes[:, 0] - x) * np.cos(angle) + (dashes[:, 1] - y) * np.sin(angle)
        across = (dashes[:, 1] - y) * np.cos(angle) - (dashes[:, 0] - x) * np.sin(angle)
        beside = np.flatnonzero((turn < ANGLE) & (np.abs(along) < length / 2 + 1))
        beside = beside[np.argsort(across[beside])]
        gaps = np.diff(across[beside])
        if len(gaps) < LEAST_TICKS - 1:
            continue
        even = np.abs(gaps - np.median(gaps)) < SPACING * np.median(gaps)
        # the longest run of even gaps
        edges = np.flatnonzero(np.diff(np.concatenate([[0], even.astype(np.int8), [0]])))
        runs = edges.reshape(-1, 2)
        if len(runs):
            first, end = runs[np.argmax(runs[:, 1] - runs[:, 0])]
            if end - first >= LEAST_TICKS - 1:
                scales.append(beside[first : end + 1])
    return scales
