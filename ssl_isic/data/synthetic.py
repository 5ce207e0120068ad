"""A small synthetic stand-in for ISIC-2024: the same files, column for column, painted and drawn from one seed.

Its lesions resemble the real ones enough for the whole pipeline to be shown and tested without a download: several
lesions a patient, several clinics with cameras of their own, two clinics that only the test file has, few malignant
lesions that differ from the benign by degree. It says nothing about real skin.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from ssl_isic.data.lesion_painter import paint
from ssl_isic.data.synthetic_columns import TEST_COLUMNS, TRAIN_COLUMNS, Cell, train_row
from ssl_isic.data.synthetic_patients import (
    AT_RISK_PATIENTS,
    TEST_CLINICS,
    TRAIN_CLINICS,
    Clinic,
    Patient,
    draw_lesion,
    draw_patient,
    draw_site,
    lesions_per_patient,
)
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

_JPEG_QUALITY = 85
_ID_RANGE = 10**7
_SAMPLE_TARGET = 0.3  # what Kaggle's own sample submission says


@dataclass(frozen=True)
class SyntheticFiles:
    train_images: Path
    train_table: Path
    test_images: Path
    test_table: Path
    sample_submission: Path
    test_truth: Path  # isic_id,target of the test file: what Kaggle hides


@dataclass(frozen=True)
class _Lesions:
    """One file's worth: JPEG bytes and a table of `TRAIN_COLUMNS`, both in the order of `isic_id`."""

    jpegs: dict[str, bytes]
    table: pd.DataFrame


def write_synthetic(
    folder: Path, *, train_rows: int = 2400, test_rows: int = 1200, prevalence: float = 0.03, seed: int = 0
) -> SyntheticFiles:
    """Write a synthetic train and test set into `folder` (made if missing), under the competition's own file names.

    Each file holds exactly `round(prevalence * rows)` malignant lesions. Pictures are square RGB JPEGs of 61..160
    px that show 15 x 15 mm. The same arguments give the same bytes in every CSV and JPEG.

    Raises `InputError` for a number out of range or a `folder` that is a file.
    """
    _check(folder, train_rows, test_rows, prevalence, seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = _unique("ISIC", train_rows + test_rows, np.random.default_rng([seed, 0]))
    people = _unique("IP", train_rows + test_rows, np.random.default_rng([seed, 1]))
    train = _draw(ids[:train_rows], people[:train_rows], TRAIN_CLINICS, prevalence, (seed, 2))
    test = _draw(ids[train_rows:], people[train_rows:], TEST_CLINICS, prevalence, (seed, 3))

    files = SyntheticFiles(
        train_images=folder / "train-image.hdf5",
        train_table=folder / "train-metadata.csv",
        test_images=folder / "test-image.hdf5",
        test_table=folder / "test-metadata.csv",
        sample_submission=folder / "sample_submission.csv",
        test_truth=folder / "test-truth.csv",
    )
    _write_images(train.jpegs, files.train_images)
    _write_table(train.table, files.train_table)
    _write_images(test.jpegs, files.test_images)
    _write_table(test.table[list(TEST_COLUMNS)], files.test_table)
    _write_table(test.table[["isic_id"]].assign(target=_SAMPLE_TARGET), files.sample_submission)
    _write_table(test.table[["isic_id", "target"]], files.test_truth)
    return files


def _check(folder: Path, train_rows: int, test_rows: int, prevalence: float, seed: int) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder for the synthetic data")
    for name, rows in (("train_rows", train_rows), ("test_rows", test_rows)):
        if rows < 1:
            raise InputError(f"{name} must be 1 or more, got {rows}")
    if train_rows + test_rows > _ID_RANGE // 2:
        raise InputError(f"at most {_ID_RANGE // 2} synthetic lesions have ids, asked for {train_rows + test_rows}")
    if not 0 <= prevalence <= 1:
        raise InputError(f"prevalence is a share from 0 to 1, got {prevalence}")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, got {seed}")


def _unique(prefix: str, count: int, rng: np.random.Generator) -> list[str]:
    return [f"{prefix}_{number:07d}" for number in rng.choice(_ID_RANGE, count, replace=False)]


def _draw(
    ids: list[str], people: list[str], clinics: tuple[Clinic, ...], prevalence: float, seed: tuple[int, int]
) -> _Lesions:
    rng = np.random.default_rng(seed)
    counts = lesions_per_patient(len(ids), rng)
    owners = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    targets, at_risk = _assign_targets(owners, round(prevalence * len(ids)), rng)
    patients = [
        draw_patient(person, clinics, at_risk=risk, rng=rng) for person, risk in zip(people, at_risk, strict=False)
    ]
    jpegs: dict[str, bytes] = {}
    rows: list[dict[str, Cell]] = []
    for row, isic_id in enumerate(sorted(ids)):
        # A stream of its own: what one lesion draws does not move the next.
        own = np.random.default_rng((*seed, row))
        jpegs[isic_id], cells = _one_lesion(isic_id, patients[owners[row]], int(targets[row]), own)
        rows.append(cells)
    return _Lesions(jpegs, pd.DataFrame(rows, columns=list(TRAIN_COLUMNS)))


def _assign_targets(
    owners: NDArray[np.intp], malignant: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], list[bool]]:
    """Which lesions are malignant (0/1), and which patients are at risk: a quarter, who have them all if they can."""
    patients = int(owners.max()) + 1
    chosen = max(1, min(math.ceil(AT_RISK_PATIENTS * patients), math.ceil(malignant / 1.3)))
    # Patients with more lesions are likelier to have a malignant one.
    counts = np.bincount(owners, minlength=patients)
    risky = rng.choice(patients, chosen, replace=False, p=counts / counts.sum())
    at_risk = np.isin(np.arange(patients), risky)
    order = rng.permutation(len(owners))
    _, firsts = np.unique(owners[order], return_index=True)
    rank = rng.random(len(owners)) + 2.0 * ~at_risk[owners]
    rank[order[firsts]] -= 1.0 * at_risk[owners[order[firsts]]]  # one each for those at risk before anyone's second
    targets = np.zeros(len(owners), np.intp)
    targets[np.argsort(rank)[:malignant]] = 1
    return targets, [bool(risk) for risk in at_risk]


def _one_lesion(isic_id: str, patient: Patient, target: int, rng: np.random.Generator) -> tuple[bytes, dict[str, Cell]]:
    skin, camera, crop_px = draw_site(patient, rng)
    kind, lesion = draw_lesion(bool(target), rng)
    image_HWC, measured = paint(skin, lesion, camera, crop_px=crop_px, rng=rng)
    jpeg: bytes = simplejpeg.encode_jpeg(image_HWC, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
    return jpeg, train_row(isic_id, patient, lesion, measured, kind, target, rng)


def _write_images(jpegs: dict[str, bytes], path: Path) -> None:
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for isic_id, jpeg in jpegs.items():
            file.create_dataset(isic_id, data=np.bytes_(jpeg))


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
