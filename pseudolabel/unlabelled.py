"""The unlabelled pool: which images it holds, less those that are labelled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune.labelled import Labelled
from ssl_isic.config import Config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.split_reading import bytes_hashes
from ssl_isic.data.tables import match_ids, read_groups, read_table, read_target, rows_hash
from ssl_isic.errors import InputError

UNLABELLED = "unlabelled"


class UnlabelledConfig(Config):
    """The unlabelled images."""

    images: Path
    """HDF5 file or folder of images."""
    table: Path | None = None
    """CSV whose isic_id name the images to use; null uses all. Labelled images are always left out."""
    truth: str | None = None
    """Column of the table with the true labels, where an experiment knows them: reported on, never learned from."""
    group: str = "none"
    """Column of the table whose values the bootstrap of the truth keeps together."""


@dataclass(frozen=True)
class Unlabelled:
    """N images of the pool: ids (N,), their indices (N,), and truth (N,) and groups (N,) where they are known."""

    ids: NDArray[np.str_]
    indices: NDArray[np.int64]
    truth: NDArray[np.float64] | None
    groups: NDArray[np.str_] | None
    copies: int
    """How many others are left out: their bytes are a labelled image's."""

    def rows_hash(self) -> str:
        """A hash of the ids, and of their truth and groups where they are known."""
        return rows_hash(self.ids, *(values for values in (self.truth, self.groups) if values is not None))


def read_unlabelled(config: UnlabelledConfig, labelled: Labelled, images: ImagePool) -> Unlabelled:
    """The pool's images, less those that are labelled, by their id or by another's of the same bytes.

    A copy of a labelled image would carry its label past its fold: its own model knows it by heart.

    Raises:
        InputError: none remain, ids have no image, or the truth is not there or of one class.
    """
    if config.truth and config.table is None:
        raise InputError(f"pool.truth={config.truth} is a column of pool.table, which is not set; name the table")
    start, store_ids = images.slice_of(UNLABELLED)
    truth: NDArray[np.float64] | None = None
    groups: NDArray[np.str_] | None = None
    if config.table is None:
        ids = np.char.decode(store_ids)
    else:
        table = read_table(config.table)
        ids = table["isic_id"].to_numpy(str)
        if config.truth:
            truth = read_target(table, config.truth, config.table)
            groups = read_groups(table, config.group, config.table)
    match = match_ids(ids.tolist(), store_ids)
    if match.missing:
        raise InputError(
            f"{len(match.missing)} of {len(ids)} ids of {config.table} have no image in {config.images}, "
            f"the first is {match.missing[0]}; do the two belong together?"
        )
    use = ~np.isin(ids, np.array(labelled.ids))
    indices = (match.rows + start).astype(np.int64)
    others = np.flatnonzero(use)
    known = bytes_hashes(images, labelled.indices)
    copies = np.isin(bytes_hashes(images, indices[others]), known[known != ""])
    use[others[copies]] = False
    if not use.any():
        raise InputError(f"pool.images={config.images}: every image is labelled; give images without labels")
    if truth is not None and np.ptp(truth[use]) == 0:
        raise InputError(f"{config.table}: {config.truth} is the same for the whole pool; drop pool.truth")
    return Unlabelled(
        ids[use],
        indices[use],
        None if truth is None else truth[use],
        None if groups is None else groups[use],
        int(copies.sum()),
    )
