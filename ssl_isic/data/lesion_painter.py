"""Paints one synthetic skin lesion: a 15 mm square of skin as a total-body camera would crop it.

Everything is painted in CIELAB (L 0..100, a and b about -40..60), where pigment is a difference from the skin, and
turned into RGB at the end by the camera. The lesion is measured before the camera sees it, as a calibrated system
would. Legend of shapes: H, W = the crop's side in px; C = L, a, b.
"""

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.skin_painter import CROP_MM, Array, Lab, Skin, paint_hairs, paint_skin, sigmoid, smooth_noise

_HARMONICS = np.arange(2, 9)


@dataclass(frozen=True)
class Patch:
    """A second colour inside a lesion."""

    offset_lab: Lab  # difference from the pigment
    cover: float  # the share of the lesion it claims
    strength: float  # 1: the offset in full


@dataclass(frozen=True)
class Lesion:
    """The lesion itself. Unitless fields run from 0 (none) to about 1 (strong)."""

    diameter_mm: float
    eccentricity: float
    angle_rad: float
    border: float  # irregularity of the outline
    asymmetry: float  # of outline and pigment about the centre
    softness_mm: float  # width of the edge
    pigment_lab: Lab  # difference from the skin at full density
    texture: float  # contrast of network and globules
    patches: tuple[Patch, ...]

    @property
    def major_mm(self) -> float:
        return self.diameter_mm / math.sqrt(self.minor_to_major)

    @property
    def minor_to_major(self) -> float:
        return math.sqrt(1 - self.eccentricity**2)


@dataclass(frozen=True)
class Camera:
    """What a clinic's camera and lamps do to the picture."""

    cast_lab: Lab
    gradient: float  # change of L from one side of the crop to the other
    gradient_rad: float
    blur_px: float  # sigma
    noise: float  # sigma, in grey levels
    glare: float  # strength of small highlights
    frame: float  # share of the crop beyond the edge of the camera's view, which is black


@dataclass(frozen=True)
class Measured:
    """The lesion as measured on the painting, before the camera."""

    area_mm2: float
    perimeter_mm: float
    lab: Lab  # mean inside the outline
    lab_outside: Lab  # mean of the skin around it
    lightness_std: float
    lightness_std_outside: float
    colour_std: float  # root mean square of the SDs of a and b inside
    radial_std: float  # SD of a and b over rings around the centre


def paint(
    skin: Skin, lesion: Lesion, camera: Camera, *, crop_px: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Measured]:
    """One crop as HWC uint8 RGB of `crop_px` a side, and its measurements in mm and Lab units."""
    canvas_HWC = paint_skin(skin, crop_px, rng)
    inside_HW, radius_HW = _outline(lesion, crop_px, rng)
    _pigment(canvas_HWC, lesion, inside_HW, radius_HW, rng)
    measured = _measure(canvas_HWC, inside_HW, radius_HW)
    paint_hairs(canvas_HWC, skin, rng)
    return _photograph(canvas_HWC, camera, inside_HW, rng), measured


def _outline(lesion: Lesion, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """How far each pixel is inside (0..1, soft edge), and its distance from the centre in outline radii; both HW."""
    px_per_mm = size / CROP_MM
    centre = size / 2 + rng.normal(0, 0.25, 2) * px_per_mm
    x = np.arange(size, dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(size, dtype=np.float32)[:, None] - np.float32(centre[1])
    cell = max(3.0, 0.36 * lesion.diameter_mm * px_per_mm)
    wobble = (0.02 + 0.10 * lesion.border) * lesion.diameter_mm * px_per_mm / 2
    x = x + wobble * smooth_noise(rng, size, cell)
    y = y + wobble * smooth_noise(rng, size, cell)

    cos, sin = np.float32(math.cos(lesion.angle_rad)), np.float32(math.sin(lesion.angle_rad))
    u = (cos * x + sin * y) / (lesion.major_mm / 2 * px_per_mm)
    v = (cos * y - sin * x) / (lesion.major_mm * lesion.minor_to_major / 2 * px_per_mm)
    angles = np.linspace(-math.pi, math.pi, 257)
    amplitudes = (0.05 + 0.32 * lesion.border) * rng.normal(0, 1, _HARMONICS.size) / _HARMONICS**1.1
    waves = np.cos(_HARMONICS[:, None] * angles + rng.uniform(0, 2 * math.pi, (_HARMONICS.size, 1)))
    contour = 1 + amplitudes @ waves + 0.30 * lesion.asymmetry * np.cos(angles + rng.uniform(0, 2 * math.pi))
    contour = np.clip(contour, 0.35, 1.9).astype(np.float32)
    turn = (np.arctan2(v, u) + np.float32(math.pi)) * np.float32(256 / (2 * math.pi))
    radius = np.hypot(u, v) / contour[np.clip(np.rint(turn), 0, 256).astype(np.intp)]

    edge = lesion.softness_mm / (lesion.diameter_mm / 2)
    return sigmoid((1 - radius) * np.float32(3.2 / edge)), radius.astype(np.float32)


def _pigment(canvas: Array, lesion: Lesion, inside: Array, radius: Array, rng: np.random.Generator) -> None:
    size = canvas.shape[0]
    px_per_mm = size / CROP_MM
    tilt_rad = rng.uniform(0, 2 * math.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32) * np.float32(CROP_MM / lesion.diameter_mm)
    tilt = np.clip(math.cos(tilt_rad) * ramp[None, :] + math.sin(tilt_rad) * ramp[:, None], -1.2, 1.2)

    network = 1 - 1.6 * np.abs(smooth_noise(rng, size, max(2.0, 0.42 * px_per_mm)))
    clumps = smooth_noise(rng, size, max(3.0, 0.30 * lesion.diameter_mm * px_per_mm))
    globules = sigmoid(6 * (smooth_noise(rng, size, max(1.8, 0.36 * px_per_mm)) - 1.1))
    density = 0.72 + 0.36 * np.clip(1 - radius * radius, 0, 1) + 0.40 * lesion.asymmetry * tilt
    density += lesion.texture * (0.16 * network + 0.22 * clumps + 0.3 * globules)
    density = inside * np.clip(density, 0.05, 1.8)

    pigment = np.zeros_like(canvas)
    pigment[:] = lesion.pigment_lab
    for patch in lesion.patches:
        field = smooth_noise(rng, size, max(3.0, 0.32 * lesion.diameter_mm * px_per_mm))
        field += 0.9 * lesion.asymmetry * tilt * rng.choice([-1, 1])
        threshold = np.quantile(field[radius < 1], 1 - patch.cover) if (radius < 1).any() else 9.0
        weight = patch.strength * sigmoid(4.5 * (field - np.float32(threshold)))
        pigment += weight[..., None] * np.array(patch.offset_lab, np.float32)
    canvas += density[..., None] * pigment
    np.clip(canvas[..., 0], 6, 97, out=canvas[..., 0])


def _measure(canvas: Array, inside: Array, radius: Array) -> Measured:
    mm_per_px = CROP_MM / canvas.shape[0]
    mask = (inside > 0.5).astype(np.uint8)
    if mask.sum() < 4:
        mask = (radius <= np.partition(radius.ravel(), 4)[4]).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    perimeter_px = sum(cv2.arcLength(contour, closed=True) for contour in contours)
    ring = ((radius > 1.35) & (radius < 2.6)).astype(np.uint8)
    if ring.sum() < 16:
        ring = (radius > 0.9 * radius.max()).astype(np.uint8)
    mean, std = (stat.ravel() for stat in cv2.meanStdDev(canvas, mask=mask))
    mean_outside, std_outside = (stat.ravel() for stat in cv2.meanStdDev(canvas, mask=ring))
    ring_means = [
        cv2.mean(canvas, mask=((radius >= low) & (radius < low + 0.25)).astype(np.uint8))[1:3]
        for low in (0.0, 0.25, 0.5, 0.75)
    ]
    return Measured(
        area_mm2=float(mask.sum()) * mm_per_px**2,
        # arcLength runs through pixel centres, half a pixel inside
        perimeter_mm=(float(perimeter_px) + 3.0) * mm_per_px,
        lab=cast(Lab, tuple(mean.tolist())),
        lab_outside=cast(Lab, tuple(mean_outside.tolist())),
        lightness_std=float(std[0]),
        lightness_std_outside=float(std_outside[0]),
        colour_std=float(np.hypot(std[1], std[2]) / math.sqrt(2)),
        radial_std=float(np.std(np.array(ring_means), axis=0).mean()),
    )


def _photograph(canvas: Array, camera: Camera, inside: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    size = canvas.shape[0]
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    cos, sin = math.cos(camera.gradient_rad), math.sin(camera.gradient_rad)
    canvas[..., 0] += camera.gradient * (cos * ramp[None, :] + sin * ramp[:, None])
    canvas += np.array(camera.cast_lab, np.float32)
    if camera.glare > 0:
        shine = sigmoid(5 * (smooth_noise(rng, size, max(1.6, 0.22 * size / CROP_MM)) - 1.9)) * (0.25 + 0.75 * inside)
        canvas[..., 0] += camera.glare * 30 * shine
        canvas[..., 1:] *= 1 - 0.5 * camera.glare * shine[..., None]
    np.clip(canvas[..., 0], 0, 100, out=canvas[..., 0])
    rgb = cv2.cvtColor(canvas, cv2.COLOR_Lab2RGB)
    rgb = cv2.GaussianBlur(rgb, (0, 0), camera.blur_px) * np.float32(255)
    rgb += rng.standard_normal((size, size, 1), np.float32) * np.float32(camera.noise)
    rgb[: round(camera.frame * size)] = 0
    photograph: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return photograph
