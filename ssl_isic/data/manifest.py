"""`folds.json`, beside `folds.csv`: what the folds were made of, so that whoever uses them can tell when that has changed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from ssl_isic.data.folds import Folds, ids_hash
from ssl_isic.data.grouping import Columns, Texts, texts_hash
from ssl_isic.errors import InputError
from ssl_isic.files import write_json

Protocol = Literal["groups", "clinics"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ComparedImages(_Record):
    """How near-duplicates were looked for, and how many pairs were found."""

    images: str
    distance: int
    correlation: float
    flips: bool
    pairs: int


class FoldsManifest(_Record):
    """What a folds.csv was made of. Hashes are of the ids, and of each id's group, fold and column values."""

    format: Literal[1] = 1
    version: str
    """Of this package."""
    table: str
    rows: int
    groups: int
    folds: int
    seed: int
    protocol: Protocol
    columns: dict[str, Sha256]
    """The columns that were joined to groups, and under `clinics` the clinic's."""
    near_duplicates: ComparedImages | None
    clinics: dict[str, list[str]]
    """By fold, the clinics that it holds out; empty for the protocol `groups`."""
    ids_sha256: Sha256
    groups_sha256: Sha256
    folds_sha256: Sha256


def manifest_path(folds: Path) -> Path:
    """Where the manifest of the folds at `folds` is."""
    return folds.with_suffix(".json")


def hashes_of(ids: Sequence[str], groups: Texts, fold: Folds) -> dict[str, str]:
    """The hashes of a manifest that a folds.csv itself can be held to."""
    return {
        "ids_sha256": ids_hash(ids),
        "groups_sha256": texts_hash(ids, groups),
        "folds_sha256": texts_hash(ids, fold),
    }


def write_manifest(folds: Path, manifest: FoldsManifest) -> None:
    """Write the manifest of the folds at `folds`, atomically."""
    write_json(manifest_path(folds), manifest.model_dump())


def read_manifest(folds: Path) -> FoldsManifest | None:
    """The manifest of the folds at `folds`; None where there is none, as for folds that a user made.

    Raises:
        InputError: a file that is no manifest.
    """
    path = manifest_path(folds)
    try:
        return FoldsManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        key = ".".join(str(part) for part in fault["loc"])
        raise InputError(
            f"{path} is not the manifest of folds ({key + ': ' if key else ''}{fault['msg']}); "
            "make the folds again with ssl-isic folds"
        ) from None


def check_file(folds: Path, manifest: FoldsManifest, ids: Sequence[str], groups: Texts, fold: Folds) -> None:
    """Refuse a folds.csv that is not the one its manifest was written with.

    Raises:
        InputError: ids, groups or folds were changed since.
    """
    found = hashes_of(ids, groups, fold)
    for key, what in (("ids_sha256", "ids"), ("groups_sha256", "groups"), ("folds_sha256", "folds")):
        if found[key] != getattr(manifest, key):
            raise InputError(
                f"{folds}: its {what} are not those that {manifest_path(folds)} was written with; make the folds again, "
                f"or remove {manifest_path(folds).name} if the change is meant"
            )


def check_table(folds: Path, manifest: FoldsManifest, table: Path, ids: Sequence[str], columns: Columns) -> None:
    """Refuse a table that is not the one the folds were made of.

    Raises:
        InputError: it has other ids, or other values in a column that was joined to groups.
    """
    again = f"make the folds again for this table, or remove {manifest_path(folds).name} if the change is meant"
    if ids_hash(ids) != manifest.ids_sha256:
        raise InputError(
            f"{table} has {len(ids)} ids, and {folds} was made for {manifest.rows}, not all the same; {again}"
        )
    for name, digest in manifest.columns.items():
        if texts_hash(ids, columns[name]) != digest:
            raise InputError(f"{table}: {name} is not what it was when {folds} was made of it; {again}")


def clinics_by_fold(clinics: Texts, fold: Folds) -> dict[str, list[str]]:
    """For each fold, the clinics that it holds."""
    return {str(number): np.unique(clinics[fold == number]).tolist() for number in np.unique(fold)}


def split_hash(folds: Path, ids: Sequence[str], fold: Folds) -> str:
    """For a run's provenance: the hash of the manifest, or where there is none of the folds (ids,) that were used."""
    path = manifest_path(folds)
    if path.exists():
        return f"sha256 of {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"no manifest, sha256 of the folds {texts_hash(ids, fold)}"
