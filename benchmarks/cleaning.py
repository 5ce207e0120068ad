"""What cleaning does to lesions, measured on images with masks; and hair removal on hair of which the truth is known.

    python benchmarks/cleaning.py images=ham10000-image.hdf5 masks=ham10000-mask.hdf5 table=ham10000-metadata.csv

Three zones: the lesion and the skin, each 3 % of the image's side away from the mask's edge, and the border between. Colour
differences are CIE76 Delta E. A lesion survives where Otsu's threshold of the blurred lightness finds it as well as before
(IoU with the mask), and where it stands out from the skin as before. Intervals are 95 % bootstraps over lesions.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ssl_isic.config import Config, read_config
from ssl_isic.data.cleaning import CLEANERS
from ssl_isic.data.cleaning.border import lit_box
from ssl_isic.data.cleaning.hair import hair_mask
from ssl_isic.data.cleaning.pixels import Image, Mask, filled, odd, side_of
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids
from ssl_isic.errors import command

CLEANED = ("hair", "ruler", "ink", "bubbles", "shades_of_gray", "clahe", "border")
ZONE = 0.03
HAIR_WIDTH, HAIR_CURVE = (0.004, 0.014), 0.25
HAIR_RGB = np.array([(40, 30, 25), (75, 52, 38), (105, 78, 58)])
NEAR_PX = 2


class CleaningConfig(Config):
    """Measure what cleaning does to lesions."""

    images: Path
    """HDF5 or folder of images."""
    masks: Path
    """HDF5 or folder of their lesion masks, by the same ids."""
    table: Path
    """CSV with isic_id and the lesion."""
    lesion: str = "lesion_id"
    """Column of the lesion."""
    sample: int = 1500
    """Images looked at."""
    resamples: int = 2000
    """Resamples of the bootstrap."""
    out: Path = Path("runs/cleaning/lesions.jsonl")
    """What was measured, a line an image; a run that was stopped goes on from it."""
    seed: int = 0
    """Seed of the sample, the hair and the resamples."""


@command
def main(argv: Sequence[str]) -> None:
    """Measure what is not measured yet, and print the tables."""
    config = read_config(CleaningConfig, argv, prog="benchmarks/cleaning.py")
    pool = ImagePool({"images": config.images, "masks": config.masks})
    table = pd.read_csv(config.table, dtype={"isic_id": str, config.lesion: str})
    table = table.iloc[np.random.default_rng(config.seed).permutation(len(table))[: config.sample]]
    places = [
        match_ids(table["isic_id"], pool.slice_of(name)[1]).rows + pool.slice_of(name)[0]
        for name in ("images", "masks")
    ]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    done = len(config.out.read_text().splitlines()) if config.out.exists() else 0
    with config.out.open("a") as log:
        for row in tqdm(range(done, len(table)), initial=done, total=len(table), unit="image"):
            image, mask = (decode_rgb(pool.read(int(of_kind[row]))) for of_kind in places)
            log.write(json.dumps(_measured(image, mask[..., 0] > 0, [config.seed, row])) + "\n")
            log.flush()
    found = pd.DataFrame([json.loads(line) for line in config.out.read_text().splitlines()])
    groups = table[config.lesion].to_numpy(str)
    print(f"{len(found)} images of {len(set(groups.tolist()))} lesions\n")
    _print_changes(found, groups, config)
    drawn = found.filter(like="drawn/").rename(columns=lambda column: column.partition("/")[2])
    print(f"\nhair drawn onto the {int(drawn.notna().any(axis=1).sum())} images in which no hair was found\n")
    _print_means(drawn, groups, config)


def _measured(image: Image, mask: Mask, seed: Sequence[int]) -> dict[str, float]:
    found = _all_changes(image, mask)
    if found["hair/images"] == 0:
        drawn = _drawn_hair(image, mask, np.random.default_rng(seed))
        found |= {f"drawn/{key}": value for key, value in drawn.items()}
    return found


def _all_changes(image: Image, mask: Mask) -> dict[str, float]:
    found = dict[str, float]()
    for name in CLEANED:
        measured = _cut(image, mask) if name == "border" else _changes(image, CLEANERS[name](image), mask)
        found |= {f"{name}/{key}": value for key, value in measured.items()}
    return found


def _changes(before: Image, after: Image, mask: Mask) -> dict[str, float]:
    """Shares of pixels changed by zone, colour changes, and how well the lesion is found and stands out."""
    inside, border, skin = _zones(mask)
    changed = np.any(before != after, axis=2)
    old, new = _lab(before), _lab(after)
    shift = np.linalg.norm(new - old, axis=2)
    return {
        "images": float(changed.any()),
        "inside": _mean(changed, inside),
        "border": _mean(changed, border),
        "skin": _mean(changed, skin),
        "delta E inside": _mean(shift, inside),
        "lesions changed by > 5 %": float(_mean(changed, inside) > 0.05),
        "contrast": _contrast(new, inside, skin) / _contrast(old, inside, skin),
        "IoU": _iou(after, mask) - _iou(before, mask),
    }


def _cut(image: Image, mask: Mask) -> dict[str, float]:
    """What a crop does: how much of the lesion it cuts away, and how well the lesion is found in what is left."""
    top, bottom, left, right = lit_box(image)
    part = mask[top:bottom, left:right]
    lost = 1 - part.sum() / mask.sum()
    cropped = image[top:bottom, left:right]
    is_cropped = cropped.shape != image.shape
    return {
        "images": float(is_cropped),
        "lesion cut away": lost,
        "lesion cut away where cropped": lost if is_cropped else np.nan,
        "lesions changed by > 5 %": float(lost > 0.05),
        "IoU": _iou(cropped, part) - _iou(image, mask) if part.any() else -_iou(image, mask),
        "IoU where cropped": _iou(cropped, part) - _iou(image, mask) if is_cropped and part.any() else np.nan,
    }


def _drawn_hair(image: Image, mask: Mask, rng: np.random.Generator) -> dict[str, float]:
    """How much of drawn hair is found, what is taken besides, and the colour error of its pixels before and after."""
    coverage = _hair_coverage(image.shape[:2], rng)
    colour = HAIR_RGB[rng.integers(len(HAIR_RGB))]
    hairy = np.rint(image + coverage[..., None] * (colour - image.astype(np.float64))).astype(np.uint8)
    drawn, found = coverage >= 0.5, hair_mask(hairy)
    cleaned = filled(hairy, found)
    disc = np.ones((2 * NEAR_PX + 1,) * 2, np.uint8)
    near = cv2.dilate((coverage > 0).astype(np.uint8), disc) > 0
    truth = _lab(image)
    error = np.linalg.norm(_lab(hairy) - truth, axis=2)
    left = np.linalg.norm(_lab(cleaned) - truth, axis=2)
    inside = _zones(mask)[0]
    return {
        "hair pixels, share of the image": float(drawn.mean()),
        "found": _mean(found, drawn),
        "found inside lesions": _mean(found, drawn & inside),
        "of what is taken, within 2 px of hair": _mean(near, found),
        "hair's Delta E with hair": _mean(error, drawn),
        "hair's Delta E cleaned": _mean(left, drawn),
        "hair's Delta E cleaned, where found": _mean(left, drawn & found),
        "image's Delta E with hair": float(error.mean()),
        "image's Delta E cleaned": float(left.mean()),
        "lesion's Delta E with hair": _mean(error, inside),
        "lesion's Delta E cleaned": _mean(left, inside),
        "IoU with hair": _iou(hairy, mask) - _iou(image, mask),
        "IoU cleaned": _iou(cleaned, mask) - _iou(image, mask),
    }


def _hair_coverage(shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.float64]:
    """5 to 25 bent hairs of random width, antialiased: how much of each pixel is hair, 0 to 1 (h, w)."""
    height, width = shape
    side, scale = np.sqrt(height * width), 4
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    for _ in range(rng.integers(5, 26)):
        start = rng.uniform((0, 0), (width, height))
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.9) * side
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        bend = (start + end) / 2 + rng.normal(0, HAIR_CURVE * length / 2, 2)
        t = np.linspace(0, 1, 60)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        thickness = max(1, round(rng.uniform(*HAIR_WIDTH) * side * scale))
        cv2.polylines(canvas, [np.rint(curve * scale).astype(np.int32)], False, 255, thickness)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.float64) / 255


def _zones(mask: Mask) -> tuple[Mask, Mask, Mask]:
    size = odd(2 * ZONE * np.sqrt(mask.size) + 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    marks = mask.astype(np.uint8)
    inside, within = cv2.erode(marks, disc) > 0, cv2.dilate(marks, disc) > 0
    return inside, within & ~inside, ~within


def _lab(image: Image) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _contrast(lab: NDArray[np.float32], inside: Mask, skin: Mask) -> float:
    """Colour difference between the lesion and the skin, by their means; NaN where there is no skin or no inside."""
    if not (inside.any() and skin.any()):
        return float("nan")
    return float(np.linalg.norm(lab[inside].mean(axis=0) - lab[skin].mean(axis=0)))


def _iou(image: Image, mask: Mask) -> float:
    """IoU of the mask with what is dark by Otsu's threshold."""
    size = odd(0.05 * side_of(image))
    lightness = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 0], (size, size), 0)
    _, dark = cv2.threshold(lightness, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    return float(np.sum((dark > 0) & mask) / np.sum((dark > 0) | mask))


def _mean(values: NDArray[np.generic], where: Mask) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def _print_changes(changes: pd.DataFrame, groups: NDArray[np.str_], config: CleaningConfig) -> None:
    keys = [column.partition("/")[2] for column in changes if column.startswith("hair/")]
    print(f"| cleaning | {' | '.join(keys)} |\n|{' --- |' * (len(keys) + 1)}")
    for name in CLEANED[:-1]:
        cells = [_interval(changes[f"{name}/{key}"], groups, config) for key in keys]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\nborder\n")
    crop = changes[[column for column in changes if column.startswith("border/")]]
    _print_means(crop.rename(columns=lambda column: column.partition("/")[2]), groups, config)
    clean_skin = changes["hair/skin"] == 0
    print(f"\nhair, the {int(clean_skin.sum())} images in whose skin it finds none\n")
    keys = ["hair/images", "hair/inside", "hair/border", "hair/lesions changed by > 5 %"]
    _print_means(changes.loc[clean_skin, keys], groups[clean_skin.to_numpy()], config)


def _print_means(values: pd.DataFrame, groups: NDArray[np.str_], config: CleaningConfig) -> None:
    print("| measure | mean [95 %] |\n| --- | --- |")
    for name in values:
        print(f"| {name} | {_interval(values[name], groups, config)} |")


def _interval(values: pd.Series, groups: NDArray[np.str_], config: CleaningConfig) -> str:
    """The mean over images that have the value, and its bootstrap interval over groups."""
    there = values.notna().to_numpy()
    if not there.any():
        return "none has it"
    _, group = np.unique(groups[there], return_inverse=True)
    sums, counts = np.bincount(group, values[there]), np.bincount(group)
    drawn = np.random.default_rng(config.seed).integers(len(sums), size=(config.resamples, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return f"{values[there].mean():.4f} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    sys.exit(main())
