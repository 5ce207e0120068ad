"""A folds file beside the images it splits: read as it stands, also where training would refuse it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.folds import read_fold_numbers
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids
from ssl_isic.errors import InputError
from ssl_isic.inspection.annotations import Codes
from ssl_isic.inspection.counting import Share, share_of


class Fold(NamedTuple):
    """One fold: its images, their groups, and the positives among them."""

    number: int
    images: int
    groups: int
    share: Share


@dataclass(frozen=True)
class FoldsFile:
    """The folds of a pool's images: `fold` (N,), -1 where the file has none; `group` (N,) by number, and their `names`."""

    path: Path
    fold: NDArray[np.int32]
    group: Codes
    names: list[str]
    without_image: list[str]

    def parts(self, target: NDArray[np.int8]) -> list[Fold]:
        """What is in each fold."""
        return [
            Fold(int(number), int(rows.sum()), len(np.unique(self.group[rows])), share_of(target, rows))
            for number in np.unique(self.fold[self.fold >= 0])
            for rows in [self.fold == number]
        ]


def read_folds_file(path: Path, pool: ImagePool) -> FoldsFile:
    """Join the folds file at `path` with the images of all sources: an id that several have stands for each of them.

    Raises:
        InputError: no such file, not a table, no column `fold`, a fold that is no whole number; no id of it in the pool.
    """
    table, number = read_fold_numbers(path)
    ids = table["isic_id"].astype(str)
    groups = table.get("group", ids)
    codes, names = pd.factorize(groups.astype(object).where(groups.notna(), None).map(str, na_action="ignore"))
    fold, group = np.full(len(pool), -1, np.int32), np.full(len(pool), -1, np.int32)
    nowhere = np.ones(len(table), bool)
    for source in pool.names:
        start, store_ids = pool.slice_of(source)
        rows = match_ids(ids, store_ids).rows
        here = rows >= 0
        fold[start + rows[here]], group[start + rows[here]] = number[here].astype(np.int32), codes[here]
        nowhere &= ~here
    if nowhere.all():
        raise InputError(f"none of the {len(table)} ids of {path} is among the images; do they belong together?")
    return FoldsFile(path, fold, group, [str(name) for name in names], ids[nowhere].tolist())
