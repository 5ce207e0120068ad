"""Labelled images: a table joined with its images and its folds, and the training rows of one fold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.cleaning import CleanNames
from ssl_isic.data.folds import check_folds
from ssl_isic.data.grouping import GroupColumns
from ssl_isic.data.images import ImagePool
from ssl_isic.data.ram_cache import CachedLoaderConfig
from ssl_isic.data.split_reading import read_split, refuse_leaking_split
from ssl_isic.data.tables import match_ids, read_table, read_target, rows_hash
from ssl_isic.errors import InputError

MOST_MISSING_IMAGES = 0.01
PATIENT = "patient_id"


class LabelledConfig(CachedLoaderConfig, GroupColumns):
    """The labelled images, their table and their folds."""

    images: Path
    """HDF5 file or folder of images."""
    table: Path
    """CSV with isic_id, the target and the group."""
    folds: Path
    """folds.csv, as `ssl-isic folds` writes it."""
    target: str = "target"
    """Column of labels, 0 or 1."""
    clean: CleanNames = []
    """What is done to each image first, in order, in training and in every prediction: see `ssl-isic clean`."""


@dataclass(frozen=True)
class Labelled:
    """N labelled images. `indices` are those of the pool; a row without an image has -1."""

    ids: list[str]
    indices: NDArray[np.int64]
    target: NDArray[np.float64]
    groups: NDArray[np.str_]
    patients: NDArray[np.str_] | None
    """Column patient_id, where there is one."""
    fold: NDArray[np.int64]
    split: str
    """The hash of the folds' manifest, for provenance."""
    notes: list[str]
    """What the user should know about the join, a line each."""

    def hashes(self) -> dict[str, str]:
        """By key, hashes of the rows, whose order is that of training, and of the folds."""
        return {"data.table": rows_hash(self.ids, self.target, self.groups), "data.folds": self.split}

    @property
    def prevalence(self) -> float:
        """Share of positives."""
        return float(self.target.mean())


@dataclass(frozen=True)
class TrainingRows:
    """M images to train on: pool indices, targets in [0, 1], weights, and on which side the sampler counts each."""

    indices: NDArray[np.int64]
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    positive: NDArray[np.bool_]

    def joined(self, other: "TrainingRows") -> "TrainingRows":
        """These rows, then `other`'s."""
        return TrainingRows(
            np.concatenate([self.indices, other.indices]),
            np.concatenate([self.target, other.target]),
            np.concatenate([self.weight, other.weight]),
            np.concatenate([self.positive, other.positive]),
        )


def read_labelled(config: LabelledConfig, pool: ImagePool, source: str) -> Labelled:
    """Join the table with the images of `source` in `pool` and with the folds.

    Raises:
        InputError: anything wrong with the table, the target, the groups or the folds, or between them; more than 1 % of the
            rows without an image; a patient, a lesion or the same bytes in two folds.
    """
    table = read_table(config.table, [config.target])
    target = read_target(table, config.target, config.table, both=True)
    split = read_split(config.folds, table, config.table, config.group_columns())
    ids = split.ids
    start, store_ids = pool.slice_of(source)
    match = match_ids(ids, store_ids)
    notes = []
    if match.missing:
        share = f"{len(match.missing)} of {len(ids)} rows of {config.table} have no image in {config.images}"
        if len(match.missing) > MOST_MISSING_IMAGES * len(ids):
            raise InputError(f"{share}, the first is {match.missing[0]}; do the two belong together?")
        notes.append(f"{share}, the first is {match.missing[0]}: they are not trained on and get the mean score")
    if match.surplus:
        notes.append(f"{match.surplus} images of {config.images} are not in {config.table}: they are not used")
    indices = np.where(match.rows >= 0, match.rows + start, -1).astype(np.int64)
    refuse_leaking_split(split, pool, indices)
    check_folds(target, split.groups, split.fold)
    patients = table[PATIENT].fillna(table["isic_id"]).to_numpy(np.str_) if PATIENT in table else None
    return Labelled(ids, indices, target, split.groups, patients, split.fold, split.provenance, notes)


def rows_outside(labelled: Labelled, fold: int) -> TrainingRows:
    """The rows to train fold `fold` on: all others that have an image."""
    use = (labelled.fold != fold) & (labelled.indices >= 0)
    target = labelled.target[use]
    return TrainingRows(labelled.indices[use], target, np.ones(len(target)), target == 1)
