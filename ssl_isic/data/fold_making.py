"""The folds stage's configuration and work: groups from columns and pictures, dealt to folds, written with their manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import model_validator

from ssl_isic.config import Seed, Workers
from ssl_isic.data.folds import Folds, check_folds, fold_report, make_folds, write_folds
from ssl_isic.data.grouping import Columns, GroupColumns, Texts, group_names, identities, read_columns, texts_hash
from ssl_isic.data.images import ImagePool
from ssl_isic.data.leaks import leaks, refuse_leaks
from ssl_isic.data.manifest import (
    ComparedImages,
    FoldsManifest,
    Protocol,
    clinics_by_fold,
    hashes_of,
    manifest_path,
    write_manifest,
)
from ssl_isic.data.near_duplicates import NO_PAIRS, NearDuplicatesConfig, Pairs, kept_small_copies, near_duplicates
from ssl_isic.data.tables import match_ids, read_groups, read_table, read_target
from ssl_isic.errors import InputError

SOURCE = "images"


class FoldsConfig(GroupColumns):
    """Split labelled images into folds of like prevalence, whole patients at a time."""

    table: Path
    """CSV with isic_id, the target and the columns of groups."""
    target: str = "target"
    """Column of labels, 0 or 1."""
    images: Path | None = None
    """HDF5 file or folder of the images: near-duplicates are then kept in one fold, too."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """When two images show the same picture."""
    workers: Workers = 2
    """Processes that read the images."""
    protocol: Protocol = "groups"
    """`clinics` holds out whole clinics: each fold is one or several."""
    clinic: str = "attribution"
    """Column of clinics, for protocol=clinics."""
    folds: int = 5
    """How many folds."""
    seed: Seed = 0
    """Another seed, another split."""
    seeds: list[int] = []
    """Several seeds, a split each: OUT-seed0.csv, OUT-seed1.csv, ..."""
    out: Path = Path("folds.csv")
    """File to write: isic_id, group, fold; its manifest is beside it, with the suffix .json."""

    @model_validator(mode="after")
    def _places_are_free(self) -> Self:
        if self.out.suffix == ".json":
            raise ValueError(f"out={self.out} is where the manifest goes; name a .csv file")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds={self.seeds}: name each seed once, 0 or larger")
        return self

    def places(self) -> dict[int, Path]:
        """For each seed, the file of its split."""
        if not self.seeds:
            return {self.seed: self.out}
        return {seed: self.out.with_name(f"{self.out.stem}-seed{seed}{self.out.suffix}") for seed in self.seeds}


@dataclass(frozen=True)
class _Rows:
    """N labelled rows: what keeps them together, the pairs (P, 2) that are near-duplicates, and the clinics if they matter."""

    ids: list[str]
    target: NDArray[np.float64]
    columns: Columns
    pairs: Pairs
    compared: ComparedImages | None
    clinics: Texts | None

    def groups(self) -> Texts:
        """The name of each row's group (N,)."""
        return group_names(self.ids, self.columns, self.pairs)

    def units(self) -> Texts:
        """What is dealt to folds (N,): groups, or clinics with all that share a group."""
        if self.clinics is None:
            return self.groups()
        return group_names(self.ids, {"clinic": self.clinics, "group": self.groups()}, NO_PAIRS)


def write_splits(config: FoldsConfig) -> None:
    """Make the folds for each seed, write them with their manifests, and print what is in them.

    Raises:
        InputError: anything wrong with the table, its columns or the images; fewer groups or clinics than folds; values of
            a patient or lesion column that is not among the groups in two folds.
    """
    table = read_table(config.table)
    rows = _read_rows(config)
    groups, units = rows.groups(), rows.units()
    if rows.clinics is not None:
        _check_clinics(config, rows)
    others = identities(table, config.table)
    for seed, path in config.places().items():
        fold = make_folds(rows.ids, rows.target, units, config.folds, seed)
        check_folds(rows.target, units, fold)
        refuse_leaks(leaks(rows.ids, fold, others, NO_PAIRS), path, f"add it to groups, or drop it from {config.table}")
        manifest = _manifest(config, seed, rows, groups, fold)
        # the manifest first: folds beside another's manifest are refused, without one they are trusted
        write_manifest(path, manifest)
        write_folds(path, rows.ids, groups, fold)
        print(fold_report(rows.target, groups, fold))
        for number, names in manifest.clinics.items():
            print(f"fold {number} holds out {'; '.join(names)}")
        print(f"wrote {path} and {manifest_path(path).name} (ids {manifest.ids_sha256[:12]})")


def near_duplicates_of(
    ids: Sequence[str], table: Path, images: Path, settings: NearDuplicatesConfig, workers: int, folder: Path | None
) -> tuple[Pairs, ComparedImages]:
    """Pairs of rows whose images are near-duplicates, and how they were found; prints what could not be compared.

    What is read of the images is kept in `folder`, where there is one, until they are found.

    Raises:
        InputError: none of `ids`, which are of `table`, has an image.
    """
    pool = ImagePool({SOURCE: images})
    match = match_ids(ids, pool.slice_of(SOURCE)[1])
    if len(match.missing) == len(ids):
        raise InputError(f"{images} holds none of the {len(ids)} ids of {table}; do they belong together?")
    with kept_small_copies(pool, match.rows.astype(np.int64), workers, folder) as copies:
        black = int(np.count_nonzero(~copies.any(axis=(1, 2)))) - len(match.missing)
        pairs = near_duplicates(copies, settings.distance, settings.correlation, settings.flips).pairs
    for count, fault in ((len(match.missing), "have no image"), (black, "are black or do not decode")):
        if count:
            print(f"{count} of {len(ids)} rows {fault} in {images}: they are compared with none")
    compared = ComparedImages(images=images.name, **settings.model_dump(), pairs=len(pairs))
    return pairs, compared


def _read_rows(config: FoldsConfig) -> _Rows:
    table = read_table(config.table)
    ids = [str(name) for name in table["isic_id"]]
    target = read_target(table, config.target, config.table, both=True)
    columns = read_columns(table, config.group_columns(), config.table)
    clinics = read_groups(table, config.clinic, config.table) if config.protocol == "clinics" else None
    pairs, compared = NO_PAIRS, None
    if config.images is not None:
        folder = config.out.with_name(f"{config.out.name}.copies")
        settings = config.near_duplicates
        pairs, compared = near_duplicates_of(ids, config.table, config.images, settings, config.workers, folder)
        one, other = group_names(ids, columns, NO_PAIRS)[pairs].T
        print(f"{len(pairs)} pairs of near-duplicates, {np.count_nonzero(one != other)} of them between groups")
    return _Rows(ids, target, columns, pairs, compared, clinics)


def _check_clinics(config: FoldsConfig, rows: _Rows) -> None:
    """Say which clinics share groups, and so a fold; InputError where too few are left."""
    frame = pd.DataFrame({"unit": rows.units(), "clinic": rows.clinics, "group": rows.groups()}).drop_duplicates()
    shared = frame[frame["group"].duplicated(keep=False)]
    for _, part in shared.groupby("unit"):
        names, groups = sorted(set(part["clinic"])), sorted(set(part["group"]))
        print(f"{' and '.join(names)} share {len(groups)} groups, the first {groups[0]}: they are held out together")
    units = frame["unit"].nunique()
    if units < config.folds:
        raise InputError(
            f"{config.table}: the {frame['clinic'].nunique()} clinics of {config.clinic} make {units} folds at most, since "
            f"those that share a group are held out together; lower folds={config.folds}"
        )


def _manifest(config: FoldsConfig, seed: int, rows: _Rows, groups: Texts, fold: Folds) -> FoldsManifest:
    clinic = {} if rows.clinics is None else {config.clinic: rows.clinics}
    return FoldsManifest(
        version=version("ssl-isic"),
        table=config.table.name,
        rows=len(rows.ids),
        groups=len(np.unique(groups)),
        folds=config.folds,
        seed=seed,
        protocol=config.protocol,
        columns={name: texts_hash(rows.ids, values) for name, values in {**rows.columns, **clinic}.items()},
        near_duplicates=rows.compared,
        clinics={} if rows.clinics is None else clinics_by_fold(rows.clinics, fold),
        **hashes_of(rows.ids, groups, fold),
    )
