"""Paints bare skin, freckles and hairs: the ground on which `lesion_painter.py` puts a lesion.

Everything is painted in CIELAB (L 0..100, a and b about -40..60), in place, on a float32 canvas HWC; H = W = the
crop's side in px, C = L, a, b.
"""

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Lab = tuple[float, float, float]

CROP_MM = 15.0


@dataclass(frozen=True)
class Skin:
    """Skin under and around a lesion."""

    lab: Lab
    lines: float  # contrast of the skin's furrows, in L
    mottling: float  # contrast of its slow blotches, in L and a
    freckles: int  # how many small brown spots lie in the crop
    hairs: int  # how many hairs cross the crop
    hair_lab: Lab


def paint_skin(skin: Skin, size: int, rng: np.random.Generator) -> Array:
    """A canvas of `size` px a side, covered with skin and its freckles."""
    px_per_mm = size / CROP_MM
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = skin.lab
    blotch = smooth_noise(rng, size, 2.6 * px_per_mm)
    flush = smooth_noise(rng, size, 1.1 * px_per_mm)
    canvas[..., 0] += skin.mottling * (0.9 * blotch - 0.6 * flush)
    canvas[..., 1] += skin.mottling * (0.7 * flush - 0.3 * blotch)
    canvas[..., 2] += skin.mottling * (0.2 * flush - 0.2 * blotch)

    furrow_rad = rng.uniform(0, math.pi)
    furrows = _streaks(rng, size, furrow_rad, 0.8 * px_per_mm, 0.20 * px_per_mm)
    furrows += 0.5 * _streaks(rng, size, furrow_rad + rng.uniform(0.5, 1.0), 0.6 * px_per_mm, 0.20 * px_per_mm)
    pores = smooth_noise(rng, size, max(1.6, 0.27 * px_per_mm))
    relief = skin.lines * (0.8 * furrows + pores)
    canvas[..., 0] += relief
    canvas[..., 1] -= 0.22 * relief
    canvas[..., 2] -= 0.10 * relief
    _freckles(canvas, skin, px_per_mm, rng)
    return canvas


def _freckles(canvas: Array, skin: Skin, px_per_mm: float, rng: np.random.Generator) -> None:
    if skin.freckles == 0:
        return
    size = canvas.shape[0]
    spots = np.zeros((size, size), np.float32)
    for _ in range(skin.freckles):
        axes = rng.gamma(4, 0.085, 2) * px_per_mm + 0.5
        _draw_ellipse(spots, rng.uniform(0, size, 2), axes, rng.uniform(0, 180), rng.uniform(0.2, 1.0))
    spots = cv2.GaussianBlur(spots, (0, 0), 0.13 * px_per_mm).astype(np.float32, copy=False)
    spots *= np.clip(0.8 + 0.35 * smooth_noise(rng, size, 0.5 * px_per_mm), 0, None)
    canvas += spots[..., None] * np.array([-8.0, 3.0, 2.5], np.float32) * (skin.lab[0] / 62)


def paint_hairs(canvas: Array, skin: Skin, rng: np.random.Generator) -> None:
    """Lay the hairs over the canvas, mostly combed one way."""
    if skin.hairs == 0:
        return
    size = canvas.shape[0]
    px_per_mm = size / CROP_MM
    comb_rad = rng.uniform(0, 2 * math.pi)
    strands = np.zeros((size, size), np.float32)
    s = np.linspace(-0.5, 0.5, 14)
    for _ in range(skin.hairs):
        length = rng.gamma(4, 2.4) * px_per_mm
        heading = comb_rad + rng.normal(0, 0.5) + rng.normal(0, 0.8) * s + rng.normal(0, 1.6) * s * s
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / s.size
        points = rng.uniform(0, size, 2) + np.cumsum(steps, axis=0)
        strand = np.zeros((size, size), np.uint8)
        fixed = np.rint(points * 16).astype(np.int32)[None]
        cv2.polylines(strand, fixed, False, int(rng.uniform(50, 165)), 1, cv2.LINE_AA, 4)
        np.maximum(strands, strand, out=strands)
    strands *= np.float32(1 / 255)
    strands = strands[..., None]
    canvas += strands * (np.array(skin.hair_lab, np.float32) - canvas)


def smooth_noise(rng: np.random.Generator, size: int, cell_px: float) -> Array:
    """Smooth noise of about unit variance whose blobs are `cell_px` wide; (size, size)."""
    cells = max(2, math.ceil(size / cell_px)) + 3
    grid = rng.standard_normal((cells, cells), np.float32)
    shift = rng.uniform(0, cell_px, 2)
    matrix = np.array([[1 / cell_px, 0, 1 + shift[0] / cell_px], [0, 1 / cell_px, 1 + shift[1] / cell_px]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    field = cv2.warpAffine(grid, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return cast(Array, field * np.float32(1.35))  # cubic interpolation averages the grid's variance down


def _streaks(rng: np.random.Generator, size: int, angle_rad: float, length_px: float, width_px: float) -> Array:
    """Noise drawn out along `angle_rad`; about unit variance."""
    grid = rng.standard_normal((96, 96), np.float32)
    width_px = max(width_px, 1.2)
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    matrix = np.array([[cos / length_px, sin / length_px, 48.0], [-sin / width_px, cos / width_px, 48.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cast(
        Array, cv2.warpAffine(grid, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP) * np.float32(1.4)
    )


def _draw_ellipse(
    mask: Array, centre: NDArray[np.float64], axes: NDArray[np.float64], angle_deg: float, value: float
) -> None:
    fixed_centre = (int(centre[0] * 16), int(centre[1] * 16))
    fixed_axes = (int(axes[0] * 16), int(axes[1] * 16))
    cv2.ellipse(mask, fixed_centre, fixed_axes, angle_deg, 0, 360, value, -1, cv2.LINE_8, 4)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return cast(Array, 0.5 * (1 + np.tanh(np.clip(0.5 * x, -20, 20))))
