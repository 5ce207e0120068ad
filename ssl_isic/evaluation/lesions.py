"""Labelled images to compare backbones on: a table joined with its images and its folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.folds import Folds, check_folds, make_folds, read_folds
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids, read_groups, read_table, read_target, require_column
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
        )


def read_lesions(
    path: Path, pool: ImagePool, *, target: str, group: str, folds: int | Path, seed: int, columns: Sequence[str]
) -> Lesions:
    """Join the table at `path` with the images of `pool`; `folds` are made, or read from a folds.csv.

    Raises:
        InputError: anything wrong with the table, its target, group or further columns; fewer groups than folds; a
            row without an image.
    """
    table = read_table(path, [target])
    ids = [str(name) for name in table["isic_id"]]
    labels, groups = read_target(table, target, path), read_groups(table, group, path)
    for column in columns:
        require_column(list(table.columns), column, path)
    match = match_ids(ids, pool.slice_of(SOURCE)[1])
    if match.missing:
        raise InputError(
            f"{len(match.missing)} of {len(ids)} rows of {path} have no image in {pool.stores[0].path}, the first is "
            f"{match.missing[0]}; drop those rows or give the images that belong to the table"
        )
    fold = make_folds(ids, labels, groups, folds, seed) if isinstance(folds, int) else read_folds(folds, ids)
    check_folds(labels, groups, fold)
    texts = {name: np.array(table[name].fillna(UNKNOWN).astype(str).tolist(), dtype=np.str_) for name in columns}
    return Lesions(ids, match.rows.astype(np.int64), labels, groups, fold, texts)
