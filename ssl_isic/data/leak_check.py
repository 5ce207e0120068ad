"""The leaks stage: one split, looked at for all that would let a model know the answers."""

from pathlib import Path

import pandas as pd
from pydantic import model_validator

from ssl_isic.config import Workers
from ssl_isic.data.columns import InputColumns, check_inputs
from ssl_isic.data.fold_making import near_duplicates_of
from ssl_isic.data.folds import check_folds, fold_report
from ssl_isic.data.grouping import GroupColumns
from ssl_isic.data.leaks import refuse_leaks
from ssl_isic.data.near_duplicates import NO_PAIRS, NearDuplicatesConfig
from ssl_isic.data.split_reading import read_split
from ssl_isic.data.tables import read_table, read_target
from ssl_isic.files import atomic_write


class LeaksConfig(GroupColumns):
    """Check a split: patients, lesions and pictures in two folds, changed files, columns that no model may read."""

    folds: Path
    """folds.csv, of `ssl-isic folds` or your own."""
    table: Path
    """CSV with isic_id, the target and the columns of groups."""
    target: str = "target"
    """Column of labels, 0 or 1."""
    images: Path | None = None
    """HDF5 file or folder of the images, to look for near-duplicates in two folds."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """When two images show the same picture."""
    workers: Workers = 2
    """Processes that read the images."""
    inputs: InputColumns = []
    """Columns of the table that your model reads."""
    test_table: Path | None = None
    """CSV of the test set: inputs that it lacks are refused."""
    out: Path | None = None
    """CSV to write every leak to, a line a row that is in another fold than one it belongs to."""

    @model_validator(mode="after")
    def _inputs_are_named(self) -> "LeaksConfig":
        if self.test_table is not None and not self.inputs:
            raise ValueError(f"test_table={self.test_table} is compared with inputs, and there are none; name them")
        return self


def check_split(config: LeaksConfig) -> None:
    """Print that the split is sound.

    Raises:
        InputError: it is not, with what is wrong, where, and how to mend it.
    """
    check_inputs(config.inputs, config.target, config.table, config.test_table)
    table = read_table(config.table)
    target = read_target(table, config.target, config.table)
    split = read_split(config.folds, table, config.table, config.group_columns())
    pairs = NO_PAIRS
    if config.images is not None:
        folder = None if config.out is None else config.out.with_name(f"{config.out.name}.copies")
        settings = config.near_duplicates
        pairs, _ = near_duplicates_of(split.ids, config.table, config.images, settings, config.workers, folder)
    found = split.leaks({}, pairs)
    if config.out is not None:
        _write(config.out, found)
    refuse_leaks(found, config.folds)
    check_folds(target, split.groups, split.fold)
    print(fold_report(target, split.groups, split.fold))
    looked = [*split.columns, *([f"near-duplicates ({len(pairs)} pairs)"] if config.images is not None else [])]
    print(f"no leaks by {', '.join(looked)}; {split.provenance}")


def _write(path: Path, found: pd.DataFrame) -> None:
    with atomic_write(path) as temporary:
        found.to_csv(temporary, index=False)
