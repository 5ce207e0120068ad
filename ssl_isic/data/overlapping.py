"""The overlap stage: which images of a pretraining are the same picture as an image of an evaluation, source by source."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ssl_isic.config import Config, Workers
from ssl_isic.data.folds import ids_hash
from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import NearDuplicatesConfig, kept_small_copies, near_duplicates
from ssl_isic.data.remote import Location
from ssl_isic.data.store import JpegStore
from ssl_isic.data.tables import match_ids, read_table
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, write_json

EVALUATION = "evaluation"


class OverlapConfig(Config):
    """Note which pretraining images are near-duplicates of evaluation images, by source."""

    pretrain: dict[str, Location] = Field(min_length=1)
    """Sources of the pretraining, named as there: pretrain.NAME=PATH_OR_URL."""
    images: Path
    """HDF5 file or folder of the evaluation's images."""
    table: Path | None = None
    """CSV whose isic_id name the images of the evaluation; null takes all."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """When two images show the same picture."""
    workers: Workers = 2
    """Processes that read the images."""
    out: Path = Path("overlap.csv")
    """File to write, a line a pair; counts by source are beside it, with the suffix .json."""

    @model_validator(mode="after")
    def _names_are_free(self) -> "OverlapConfig":
        if EVALUATION in self.pretrain:
            raise ValueError(f"pretrain.{EVALUATION}: that is the name of the other side; give the source another")
        if self.out.suffix == ".json":
            raise ValueError(f"out={self.out} is where the counts go; name a .csv file")
        return self


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceOverlap(_Record):
    """What one source of the pretraining has in common with the evaluation."""

    images: int
    ids_sha256: str
    """As in the provenance of a pretraining on this source."""
    same_picture: int
    """Images of the source that show the same picture as an image of the evaluation."""
    evaluation_images: int
    """Images of the evaluation that are in the source so."""
    other_id: int
    """Of these, those whose own id is not among what they match: a comparison of ids would not find them."""


class Overlap(_Record):
    """Counts by source."""

    format: Literal[1] = 1
    evaluation_images: int
    evaluation_ids_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    settings: dict[str, float | bool]
    sources: dict[str, SourceOverlap]


def find_overlap(config: OverlapConfig) -> Overlap:
    """Write the pairs and the counts; returns the counts.

    Raises:
        InputError: images that are not there; ids of the table without an image.
    """
    pool = ImagePool({**config.pretrain, EVALUATION: config.images})
    rows = _wanted(config, pool)
    settings = config.near_duplicates
    with kept_small_copies(pool, rows, config.workers, config.out.with_name(f"{config.out.name}.copies")) as copies:
        found = near_duplicates(copies, settings.distance, settings.correlation, settings.flips)
    first = pool.slice_of(EVALUATION)[0]
    crossing = (found.pairs[:, 0] < first) & (found.pairs[:, 1] >= first)
    pairs = rows[found.pairs[crossing]]
    frame = pd.DataFrame(
        {
            "evaluation_id": [pool.id_of(index) for index in pairs[:, 1]],
            "source": [pool.source_of(index) for index in pairs[:, 0]],
            "isic_id": [pool.id_of(index) for index in pairs[:, 0]],
            "correlation": found.correlation[crossing].round(4),
        }
    ).sort_values(["evaluation_id", "source", "isic_id"], kind="stable")
    ids = [pool.id_of(index) for index in rows[first:]]
    counts = Overlap(
        evaluation_images=len(ids),
        evaluation_ids_sha256=ids_hash(ids),
        settings=settings.model_dump(),
        sources={
            name: _counted(store, frame[frame["source"] == name])
            for name, store in zip(pool.names[:-1], pool.stores[:-1], strict=True)
        },
    )
    with atomic_write(config.out) as temporary:
        frame.to_csv(temporary, index=False)
    write_json(config.out.with_suffix(".json"), counts.model_dump())
    return counts


def overlap_table(counts: Overlap) -> str:
    """A table for the terminal: a line a source."""
    lines = [f"{'source':<20} {'images':>8} {'same picture':>13} {'of evaluation':>14} {'other id':>9}"]
    lines += [
        f"{name:<20} {one.images:>8} {one.same_picture:>13} {one.evaluation_images:>14} {one.other_id:>9}"
        for name, one in counts.sources.items()
    ]
    return "\n".join(lines)


def read_overlap(path: Path, ids: list[str]) -> Overlap:
    """The counts that `ssl-isic overlap` wrote beside the CSV at `path`, or there, for an evaluation of `ids`.

    Raises:
        InputError: no such file, another file, or counts of other evaluation images.
    """
    there = path.with_suffix(".json")
    try:
        counts = Overlap.model_validate_json(there.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"there is no file {there}; write it with ssl-isic overlap out={path.with_suffix('.csv')}"
        ) from None
    except ValidationError:
        raise InputError(f"{there} does not hold the counts of ssl-isic overlap; write it again") from None
    if counts.evaluation_ids_sha256 != ids_hash(ids):
        raise InputError(
            f"{there} is about {counts.evaluation_images} other images than the {len(ids)} that are evaluated; "
            "give ssl-isic overlap the same images and table"
        )
    return counts


def _wanted(config: OverlapConfig, pool: ImagePool) -> NDArray[np.int64]:
    """The images to compare, by their number in the pool: all of the pretraining's, then the evaluation's."""
    first, stored = pool.slice_of(EVALUATION)
    if config.table is None:
        return np.arange(len(pool))
    match = match_ids(read_table(config.table)["isic_id"].astype(str), stored)
    if match.missing:
        raise InputError(
            f"{len(match.missing)} of {len(match.rows)} ids of {config.table} have no image in {config.images}, the first is "
            f"{match.missing[0]}; do the two belong together?"
        )
    return np.concatenate([np.arange(first), first + np.sort(match.rows).astype(np.int64)])


def _counted(store: JpegStore, frame: pd.DataFrame) -> SourceOverlap:
    own = set(frame.loc[frame["evaluation_id"] == frame["isic_id"], "evaluation_id"])
    return SourceOverlap(
        images=len(store.ids),
        ids_sha256=store.ids_sha256,
        same_picture=frame["isic_id"].nunique(),
        evaluation_images=frame["evaluation_id"].nunique(),
        other_id=len(set(frame["evaluation_id"]) - own),
    )
