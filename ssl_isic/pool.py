"""The unlabelled images of a pretraining: where they are, which are held out, in what order they come, what goes with them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.data.groups import BalancedByGroup, SameGroup, numbered, pool_column
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import LoaderConfig, Order, ShuffledOrder, TrainingImages
from ssl_isic.data.views import SeededViews

Kind = Literal["patient", "lesion"]


class PoolConfig(LoaderConfig):
    """The unlabelled images."""

    sources: dict[str, Path] = Field(min_length=1)
    """Named HDF5 files or folders of images, pooled: data.sources.NAME=PATH."""
    tables: dict[str, Path] = {}
    """CSV of a source, data.tables.NAME=PATH, with isic_id and the columns below; an image without a row is no one's."""
    patient: str = "patient_id"
    """Column of the tables that says whose skin it is."""
    lesion: str = "lesion_id"
    """Column of the tables that says which lesion it is."""
    clinic: str = "attribution"
    """Column of the tables that says where it was taken; an image without it is its source's."""
    second_view: Literal["itself", "lesion"] = "itself"
    """`lesion` takes every other view from another photograph of the lesion, where there is one."""
    balance: Literal["none", "clinic"] = "none"
    """`clinic` fills each batch with equally many images of each clinic."""


@dataclass(frozen=True)
class Pool:
    """The images of `config.sources` and what its tables say of them."""

    config: PoolConfig
    images: ImagePool

    def groups(self, kind: Kind) -> NDArray[np.int64]:
        """A number for each patient or lesion, (N,); an image without a row has one of its own."""
        column: str = getattr(self.config, kind)
        return numbered(pool_column(self.images, self.config.tables, column, f"data.{kind}"))

    def clinics(self) -> NDArray[np.str_]:
        """The clinic of each image (N,), or the source where the tables do not say."""
        sources = np.repeat(self.images.names, [len(store.ids) for store in self.images.stores])
        if not self.config.tables:
            return sources
        clinics = pool_column(self.images, self.config.tables, self.config.clinic, "data.clinic")
        return np.where(clinics == "", sources, clinics)

    def order(self, indices: NDArray[np.int64], seed: int) -> Order:
        """The order in which training goes through the images `indices`."""
        if self.config.balance == "none":
            return ShuffledOrder(len(indices), seed)
        return BalancedByGroup(numbered(self.clinics()[indices]), seed)

    def dataset(
        self, indices: NDArray[np.int64], views: SeededViews, seed: int, columns: Sequence[Kind]
    ) -> TrainingImages:
        """The images `indices` for training, each with the numbers of its group of every kind in `columns`."""
        numbers: dict[str, NDArray[np.float64]] = {
            kind: self.groups(kind)[indices].astype(np.float64) for kind in columns
        }
        pairs = SameGroup(self.groups("lesion")[indices]) if self.config.second_view == "lesion" else None
        return TrainingImages(self.images, indices, views, seed, numbers, pairs)

    def hashes(self) -> dict[str, str]:
        """For each source, a hash of its ids: enough to tell one year's file from another's without reading gigabytes."""
        return {
            name: f"{len(store.ids)} ids, sha256 {hashlib.sha256(store.ids.tobytes()).hexdigest()}"
            for name, store in zip(self.images.names, self.images.stores, strict=True)
        }
