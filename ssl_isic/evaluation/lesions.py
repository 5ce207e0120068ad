"""Labelled images to compare backbones on: a table joined with its images and its folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.folds import Folds, check_folds, make_folds
from ssl_isic.data.grouping import group_names, identities, read_columns
from ssl_isic.data.images import ImagePool
from ssl_isic.data.leaks import leaks, refuse_leaks
from ssl_isic.data.near_duplicates import NO_PAIRS
from ssl_isic.data.split_reading import bytes_hashes, read_split, refuse_leaking_split
from ssl_isic.data.tables import match_ids, read_table, read_target, require_column
from ssl_isic.errors import InputError
from ssl_isic.evaluation.embedding import SOURCE

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Lesions:
    """N labelled images. `indices` are those of the pool, `columns` further columns of the table as text."""

    ids: list[str]
    indices: NDArray[np.int64]
    target: NDArray[np.float64]
    groups: NDArray[np.str_]
    fold: Folds
    columns: Mapping[str, NDArray[np.str_]]
    grouped_by: Sequence[str] = ()
    """The columns whose values were joined to groups, as far as the folds say."""

    def only(self, rows: NDArray[np.bool_]) -> "Lesions":
        """The lesions where `rows` (N,) is true. InputError when that leaves a fold without a class."""
        check_folds(self.target[rows], self.groups[rows], self.fold[rows])
        return Lesions(
            [name for name, kept in zip(self.ids, rows, strict=True) if kept],
            self.indices[rows],
            self.target[rows],
            self.groups[rows],
            self.fold[rows],
            {name: values[rows] for name, values in self.columns.items()},
            self.grouped_by,
        )


def read_lesions(
    path: Path,
    pool: ImagePool,
    *,
    target: str,
    group: Sequence[str],
    folds: int | Path,
    seed: int,
    columns: Sequence[str],
) -> Lesions:
    """Join the table at `path` with the images of `pool`; `folds` are made, or read from a folds.csv.

    Folds that are made keep equal bytes together, with the groups of the columns `group`.

    Raises:
        InputError: anything wrong with the table, its target, groups or further columns; fewer groups than folds; a row
            without an image; a patient, a lesion or the same bytes in two folds.
    """
    table = read_table(path, [target])
    ids = [str(name) for name in table["isic_id"]]
    labels = read_target(table, target, path, both=True)
    for column in columns:
        require_column(list(table.columns), column, path)
    match = match_ids(ids, pool.slice_of(SOURCE)[1])
    if match.missing:
        raise InputError(
            f"{len(match.missing)} of {len(ids)} rows of {path} have no image in {pool.stores[0].path}, the first is "
            f"{match.missing[0]}; drop those rows or give the images that belong to the table"
        )
    indices = match.rows.astype(np.int64)
    if isinstance(folds, int):
        groups = _groups(table, path, group, pool, indices)
        fold, grouped_by = make_folds(ids, labels, groups, folds, seed), list(group)
        refuse_leaks(leaks(ids, fold, identities(table, path), NO_PAIRS), path, "name that column among the groups")
    else:
        split = read_split(folds, table, path, group)
        refuse_leaking_split(split, pool, indices)
        groups, fold, grouped_by = split.groups, split.fold, split.grouped_by
    check_folds(labels, groups, fold)
    texts = {name: np.array(table[name].fillna(UNKNOWN).astype(str).tolist(), dtype=np.str_) for name in columns}
    return Lesions(ids, indices, labels, groups, fold, texts, grouped_by)


def _groups(
    table: pd.DataFrame, path: Path, names: Sequence[str], pool: ImagePool, indices: NDArray[np.int64]
) -> NDArray[np.str_]:
    """The group of each row, by its columns and by its bytes."""
    ids = [str(name) for name in table["isic_id"]]
    columns, same = read_columns(table, names, path), bytes_hashes(pool, indices)
    copies = same[(same != "") & pd.Series(same).duplicated(keep=False).to_numpy()]
    return group_names(ids, {**columns, "bytes": same} if len(copies) else columns, NO_PAIRS)
