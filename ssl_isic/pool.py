"""The unlabelled images of a pretraining: where they are, which are held out, in what order they come, what goes with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ssl_isic.data.cleaning import CleanNames
from ssl_isic.data.grouping import joined
from ssl_isic.data.groups import BalancedByGroup, Group, SameGroup, numbered
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import Order, ShuffledOrder, TrainingImages
from ssl_isic.data.near_duplicates import NO_PAIRS
from ssl_isic.data.pool_tables import PoolTables
from ssl_isic.data.ram_cache import CachedLoaderConfig
from ssl_isic.data.remote import Location
from ssl_isic.data.shard_order import WindowedOrder
from ssl_isic.data.shard_store import ShardReading
from ssl_isic.data.shown import shown_by
from ssl_isic.data.source_stamps import content_hash
from ssl_isic.data.views import SeededViews
from ssl_isic.errors import InputError


class PoolConfig(CachedLoaderConfig):
    """The unlabelled images."""

    sources: dict[str, Location] = Field(min_length=1)
    """Named HDF5 files, folders of images or shards, and URLs of shards, pooled: data.sources.NAME=PATH_OR_URL."""
    shards: ShardReading = ShardReading()
    """How sources in shards are read."""
    clean: CleanNames = []
    """What is done to each image before its views are made, in order: see `ssl-isic clean`."""
    tables: dict[str, Path] = {}
    """CSV of a source, data.tables.NAME=PATH, with isic_id and the columns below; an image without a row has no patient,
    lesion or clinic."""
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

    @model_validator(mode="after")
    def _urls_are_read_in_windows(self) -> Self:
        urls = [url for url in self.sources.values() if isinstance(url, str)]
        wants = {"balance=clinic": self.balance == "clinic", "second_view=lesion": self.second_view == "lesion"}
        for word in (word for word, wanted in wants.items() if wanted and urls):
            raise ValueError(
                f"{word} reads images of all shards at once, too many for a URL; copy {urls[0]} to a folder"
            )
        return self


@dataclass(frozen=True)
class Pool:
    """The images of `config.sources` and what its tables say of them."""

    config: PoolConfig
    images: ImagePool
    target: str | None = None
    """Column of labels, where they are asked for."""

    @cached_property
    def tables(self) -> PoolTables:
        """What the tables say of the images. InputError where a column that was named is in none of them."""
        columns = {key: str(getattr(self.config, key)) for key in ("patient", "lesion", "clinic")}
        tables = PoolTables(
            self.images, self.config.tables, [*columns.values(), *([self.target] if self.target else [])]
        )
        for key, column in columns.items():
            if column != PoolConfig.model_fields[key].default:
                tables.column(column, f"data.{key}")
        return tables

    @cached_property
    def repeated(self) -> NDArray[np.int64]:
        """The images whose id an earlier source has, too, as in the data sets of several years: pool indices, sorted."""
        ids = np.concatenate([store.ids for store in self.images.stores])
        return np.setdiff1d(np.arange(len(ids)), np.unique(ids, return_index=True)[1])

    def groups(self, kind: Group) -> NDArray[np.int64]:
        """A number for each patient or lesion, (N,); an image without a row has one of its own.

        Photographs of one lesion are of one patient, whether or not the tables name who that is.
        """
        values = self.tables.column(getattr(self.config, kind), f"data.{kind}")
        lesions = self.tables.find(self.config.lesion) if kind == "patient" else None
        return numbered(values) if lesions is None else joined({"patient": values, "lesion": lesions}, NO_PAIRS)

    def lesions(self) -> NDArray[np.int64]:
        """A number for each lesion, (N,); each image is one where the tables do not say."""
        lesions = self.tables.find(self.config.lesion)
        return np.arange(len(self.images)) if lesions is None else numbered(lesions)

    def clinics(self) -> NDArray[np.str_]:
        """The clinic of each image (N,), or the source where the tables do not say."""
        sources = np.repeat(self.images.names, [len(store.ids) for store in self.images.stores])
        if not self.config.tables:
            return sources
        clinics = self.tables.column(self.config.clinic, "data.clinic")
        return np.where(clinics == "", sources, clinics)

    def order(self, indices: NDArray[np.int64], seed: int) -> Order:
        """The order in which training goes through the images `indices`."""
        if self.config.balance == "clinic":
            return BalancedByGroup(numbered(self.clinics()[indices]), seed)
        shard, source = self.images.shards()
        if np.any(shard[indices] >= 0):
            return WindowedOrder(shard[indices], source, self.config.shards.window, seed)
        return ShuffledOrder(len(indices), seed)

    def without(self, left_out: NDArray[np.int64]) -> NDArray[np.int64]:
        """All images but those left out, shard by shard: what replaces a bad image is then in a shard that is here."""
        others = np.setdiff1d(np.arange(len(self.images)), left_out)
        return others[np.argsort(self.images.shards()[0][others], kind="stable")]

    def dataset(
        self, indices: NDArray[np.int64], views: SeededViews, seed: int, columns: Sequence[Group]
    ) -> TrainingImages:
        """The images `indices` for training, each with the numbers of its group of every kind in `columns`."""
        numbers: dict[str, NDArray[np.float64]] = {
            kind: self.groups(kind)[indices].astype(np.float64) for kind in columns
        }
        pairs = SameGroup(self.groups("lesion")[indices]) if self.config.second_view == "lesion" else None
        shown, cleaning = shown_by(views, self.config.decode), self.config.clean
        return TrainingImages(self.images, indices, views, seed, numbers, pairs, shown, cleaning)

    def remarks(self, indices: NDArray[np.int64], columns: Sequence[Group]) -> list[str]:
        """What the tables make of training on the images `indices`, one line for each thing that was asked of them.

        Raises:
            InputError: a second view of the lesion, where no image has another photograph of its own.
        """
        lines = []
        if self.config.second_view == "lesion":
            paired = _with_company(self.groups("lesion")[indices])
            if paired == 0:
                raise InputError(
                    f"data.second_view=lesion: none of {len(indices)} images has another photograph of its lesion, by column "
                    f"{self.config.lesion} of data.tables; name another as data.lesion, or set data.second_view=itself"
                )
            lines.append(
                f"data.second_view=lesion: {paired} of {len(indices)} images have another photograph of their lesion"
            )
        for kind in columns:
            paired = _with_company(self.groups(kind)[indices])
            lines.append(f"method.not_negative={kind}: {paired} of {len(indices)} images have others of their {kind}")
        if self.config.balance == "clinic":
            clinics, sizes = np.unique(self.clinics()[indices], return_counts=True)
            share = len(indices) // len(clinics)
            ends = [
                f"an image of {clinics[end]} ({sizes[end]} images) comes {share / sizes[end]:.3g} times an epoch"
                for end in (sizes.argmin(), sizes.argmax())
            ]
            lines.append(f"data.balance=clinic: {len(clinics)} clinics, {share} draws each; {', '.join(ends)}")
        return lines

    def hashes(self) -> dict[str, str]:
        """Hashes by key: for each source of its ids and a sample of its images, for each table of the columns that are read."""
        stores = zip(self.images.names, self.images.stores, strict=True)
        sources = {f"data.sources.{name}": content_hash(store) for name, store in stores}
        return sources | {f"data.tables.{name}": digest for name, digest in self.tables.hashes.items()}


def _with_company(groups: NDArray[np.int64]) -> int:
    """How many images have another one of their group."""
    sizes = np.unique(groups, return_counts=True)[1]
    return int(sizes[sizes > 1].sum())
