"""The ticks of a ruler or of a dermoscope's scale, painted over."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning.lines import along_lines, darkness
from ssl_isic.data.cleaning.pixels import Image, Mask, filled, grown, odd, side_of, working_copy

WIDTH, AROUND, BASELINE = 0.03, 0.12, 0.25
LONGEST, SLIMNESS = 0.2, 2.0
DARK = 14
LEAST_TICKS, ANGLE, SPACING = 6, np.deg2rad(12), 0.2

Dashes = NDArray[np.float64]
"""Straight slim marks (K, 4): x, y, angle from 0 to pi, length."""


def remove_ruler(image: Image) -> Image:
    """The image without the ticks of a scale, painted over from beside them; itself where there is none.

    A scale is six or more dark dashes side by side, parallel and evenly spaced to a fifth, and a line along their ends
    where it has one. A single long line or two are left: they may be anything. Numbers beside the ticks are left too.
    """
    return filled(image, ruler_mask(working_copy(image)))


def ruler_mask(image: Image) -> Mask:
    """Where the ticks of a scale are (h, w), of an image that is no larger than a working copy."""
    side = side_of(image)
    plane = darkness(image, odd(WIDTH * side, 5), odd(AROUND * side, 7))
    dark = plane >= DARK
    baselines = dark & (along_lines(plane, odd(BASELINE * side, 9)) >= DARK)
    count, labels = cv2.connectedComponents((dark & ~baselines).astype(np.uint8))
    numbers, dashes = _dashes(labels, count, side)
    mask = np.zeros(dark.shape, np.uint8)
    for rows in evenly_spaced(dashes):
        mask |= _scale(np.isin(labels, numbers[rows]), baselines)
    return grown(mask)


def _scale(ticks: Mask, baselines: Mask) -> NDArray[np.uint8]:
    """The ticks, and what of the baselines lies in the rectangle around them."""
    points = cv2.findNonZero(ticks.astype(np.uint8))
    around = np.zeros(ticks.shape, np.uint8)
    cv2.fillConvexPoly(around, cv2.boxPoints(cv2.minAreaRect(points)).round().astype(np.int32), 1)
    around = cv2.dilate(around, np.ones((5, 5), np.uint8))
    found: NDArray[np.uint8] = (ticks | (baselines & (around > 0))).astype(np.uint8)
    return found


def _dashes(labels: NDArray[np.int32], count: int, side: float) -> tuple[NDArray[np.int64], Dashes]:
    """The components that are straight and slim: their numbers (K,), and their form (K, 4)."""
    rows = list[tuple[int, float, float, float, float]]()
    order = np.argsort(labels, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=count))
    for number in range(1, count):
        places = order[ends[number - 1] : ends[number]]
        if len(places) < 3:
            continue
        points = np.stack([places % labels.shape[1], places // labels.shape[1]], axis=1).astype(np.float32)
        (x, y), (width, height), degrees = cv2.minAreaRect(points)
        long, short = max(width, height) + 1, min(width, height) + 1
        if long <= LONGEST * side and long >= SLIMNESS * short:
            angle = np.deg2rad(degrees + (90 if height > width else 0)) % np.pi
            rows.append((number, x, y, angle, long))
    table = np.array(rows, np.float64).reshape(-1, 5)
    return table[:, 0].astype(np.int64), table[:, 1:]


def evenly_spaced(dashes: Dashes) -> list[NDArray[np.int64]]:
    """The scales among the dashes (K, 4), each as the rows of its ticks, in order along it; one may be named by many ticks."""
    scales = list[NDArray[np.int64]]()
    for x, y, angle, length in dashes:
        turn = np.abs((dashes[:, 2] - angle + np.pi / 2) % np.pi - np.pi / 2)
        along = (dashes[:, 0] - x) * np.cos(angle) + (dashes[:, 1] - y) * np.sin(angle)
        across = (dashes[:, 1] - y) * np.cos(angle) - (dashes[:, 0] - x) * np.sin(angle)
        beside = np.flatnonzero((turn < ANGLE) & (np.abs(along) < length / 2 + 1))
        beside = beside[np.argsort(across[beside])]
        first, end = _longest_even_run(np.diff(across[beside]))
        if end - first + 1 >= LEAST_TICKS:
            scales.append(beside[first : end + 1])
    return scales


def _longest_even_run(gaps: NDArray[np.float64]) -> tuple[int, int]:
    """Where the longest run of gaps near their median begins and ends."""
    usual = np.median(gaps) if gaps.size else 0.0
    even = np.abs(gaps - usual) <= SPACING * usual
    edges = np.flatnonzero(np.diff(np.concatenate([[0], even.astype(np.int8), [0]])))
    first, end = max(edges.reshape(-1, 2).tolist(), key=lambda run: run[1] - run[0], default=(0, 0))
    return first, end
