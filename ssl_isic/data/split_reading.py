"""The folds of a table's rows, read from a folds.csv and held to its manifest and to the table: for all that train or score."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ssl_isic.data.folds import Folds, read_folds
from ssl_isic.data.grouping import Columns, Texts, group_names, identities, read_columns
from ssl_isic.data.images import ImagePool
from ssl_isic.data.leaks import leaks, refuse_leaks
from ssl_isic.data.manifest import FoldsManifest, check_file, check_table, read_manifest, split_hash
from ssl_isic.data.near_duplicates import NO_PAIRS, Pairs
from ssl_isic.data.tables import read_table, read_texts


@dataclass(frozen=True)
class Split:
    """Of N rows: their ids, folds (N,) and groups (N,), and what a run's provenance says of them."""

    path: Path
    ids: list[str]
    fold: Folds
    groups: Texts
    grouped_by: list[str]
    """What was joined to the groups: columns, and near-duplicates."""
    columns: Columns
    """The columns whose values are each to be in one fold."""
    provenance: str
    images_compared: bool
    """Whether the folds were made with near-duplicates joined."""

    def leaks(self, more: Columns, pairs: Pairs) -> pd.DataFrame:
        """The leaks by the columns, by `more` of them, and by `pairs` (P, 2) of near-duplicates: see `data.leaks.leaks`."""
        return leaks(self.ids, self.fold, {**self.columns, **more}, pairs)


def read_split(folds: Path, table: pd.DataFrame, path: Path, names: Sequence[str]) -> Split:
    """The folds, from the file `folds`, of the rows of `table`, which is at `path`; they may leak.

    The groups are those of the file where a manifest vouches for them, else of the table's columns `names`, joined.

    Raises:
        InputError: what `read_folds` and `read_columns` refuse; a manifest that the file or the table no longer agrees with.
    """
    ids = [str(name) for name in table["isic_id"]]
    named = read_columns(table, names, path)
    columns = named | identities(table, path)
    fold = read_folds(folds, ids)
    groups, grouped_by = group_names(ids, named, NO_PAIRS), list(names)
    manifest = read_manifest(folds)
    if manifest:
        grouped_by = [*manifest.columns, *(["near-duplicates"] if manifest.near_duplicates else [])]
        columns |= {name: read_texts(table, name, path) for name in manifest.columns}
        groups = _vouched_groups(folds, manifest, path, ids, columns)
    compared = manifest is not None and manifest.near_duplicates is not None
    return Split(folds, ids, fold, groups, grouped_by, columns, split_hash(folds, ids, fold), compared)


def refuse_leaking_split(split: Split, pool: ImagePool, indices: NDArray[np.int64]) -> None:
    """Raise an InputError that names the rows of a patient, a lesion or the same bytes in two folds.

    The images are read for it, unless the folds were made with near-duplicates joined; `indices` (N,) are theirs in `pool`.
    """
    same = {} if split.images_compared else {"bytes": bytes_hashes(pool, indices)}
    refuse_leaks(split.leaks(same, NO_PAIRS), split.path)


def bytes_hashes(pool: ImagePool, indices: NDArray[np.int64]) -> Texts:
    """A hash of each image's bytes (N,), "" for one that is not there (-1) or empty."""
    hashes = []
    for index in tqdm(indices.tolist(), desc="looking for copies", unit="image", unit_scale=True, delay=2):
        data = pool.read(index) if index >= 0 else b""
        hashes.append(hashlib.blake2b(data, digest_size=8).hexdigest() if data else "")
    return np.array(hashes, dtype=np.str_)


def _vouched_groups(folds: Path, manifest: FoldsManifest, path: Path, ids: Sequence[str], columns: Columns) -> Texts:
    """The groups of the rows, as the file has them, once file and table agree with the manifest."""
    there = read_table(folds, ["group", "fold"])
    names = [str(name) for name in there["isic_id"]]
    groups = read_texts(there, "group", folds)
    check_file(folds, manifest, names, groups, read_folds(folds, names))
    check_table(folds, manifest, path, ids, columns)
    group_of = dict(zip(names, groups.tolist(), strict=True))
    return np.array([group_of[name] for name in ids], dtype=np.str_)
