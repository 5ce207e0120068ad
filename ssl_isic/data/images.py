"""Where the bytes of the images come from: Kaggle's HDF5 files, folders of JPEG and PNG, shards, and pools of such stores.

A store holds compressed bytes keyed by `isic_id`; `decoding.decode_rgb` turns them into pixels. A store survives both `fork`
and `spawn`.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.folder_store import FolderStore
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.data.ram_cache import CachedLoaderConfig, cache_bytes
from ssl_isic.data.remote import as_location
from ssl_isic.data.shard_index import INDEX_NAME
from ssl_isic.data.shard_order import take_from_few_shards
from ssl_isic.data.shard_store import GB, OpenShards, ShardReading, ShardStore
from ssl_isic.data.store import Ids, JpegStore
from ssl_isic.errors import InputError


def open_store(location: Path | str, shards: OpenShards | None = None) -> JpegStore:
    """Open an HDF5 file, a folder of images, or shards in a folder or at a URL, which are opened through `shards`.

    Raises:
        InputError: it is missing, or something else.
    """
    if isinstance(location, str) or (location / INDEX_NAME).is_file():
        return ShardStore(location, shards or OpenShards(ShardReading()))
    return FolderStore(location) if location.is_dir() else Hdf5Store(location)


class ImagePool:
    """Several named stores as one sequence of images.

    Image `k` of the pool is image `k - offset` of the store it falls in; stores follow each other in the order given.
    The same id may stand in several sources, and is an image of each; pretraining takes that of the first.
    """

    def __init__(self, sources: Mapping[str, Path | str], reading: ShardReading | None = None) -> None:
        if not sources:
            raise InputError("no image sources: set data.sources.NAME=FILE")
        self._reading = reading or ShardReading()
        open_shards = OpenShards(self._reading)
        self.names = list(sources)
        self.stores = [open_store(as_location(location), open_shards) for location in sources.values()]
        self._ends = list(accumulate(len(store.ids) for store in self.stores))
        _check_room(self._sharded(remote=True), self._reading)

    def __len__(self) -> int:
        return self._ends[-1]

    def source_of(self, index: int) -> str:
        """The name of the source that image `index` comes from."""
        return self.names[self._locate(index)[0]]

    def id_of(self, index: int) -> str:
        """The `isic_id` of image `index`."""
        source, position = self._locate(index)
        return str(self.stores[source].ids[position].decode())

    def read(self, index: int) -> bytes:
        """The compressed bytes of image `index`."""
        source, position = self._locate(index)
        return self.stores[source].read(position)

    def cache(self, config: CachedLoaderConfig, show: bool) -> None:
        """Have the bytes in memory as `config` says, before workers start; `show` draws a progress bar.

        Raises:
            InputError: they do not fit.
        """
        cache_bytes(dict(zip(self.names, self.stores, strict=True)), config.cache, config.cache_gb, show)

    def slice_of(self, name: str) -> tuple[int, Ids]:
        """Where source `name` starts in the pool, and its sorted ids."""
        source = self.names.index(name)
        store = self.stores[source]
        return self._ends[source] - len(store.ids), store.ids

    def shards(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of each image's shard (N,), -1 where it is in none; and the number of each shard's source (S,)."""
        shard, source = np.full(len(self), -1), np.empty(0, np.int64)
        for number, store in self._sharded().items():
            shard[self._ends[number] - len(store.ids) : self._ends[number]] = len(source) + store.shard
            source = np.append(source, np.full(len(store.shards), number))
        return shard, source

    def from_few_shards(self, candidates: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """`size` of `candidates`, images in random order: the first, but of a source in shards from as few as hold them.

        A source gives as many as it has among the first `size`. A shard is a random sample, so its first ones are no worse.
        """
        return take_from_few_shards(candidates, size, *self.shards())

    @property
    def lookahead(self) -> int:
        """How many draws before an image is drawn its shard should be fetched: about a window's. 0 where none is."""
        shards = sum(len(store.shards) for store in self._sharded().values())
        return len(self) * self._reading.window // shards if self._sharded(remote=True) else 0

    def fetch_ahead(self, index: int) -> None:
        """Have what image `index` needs fetched in the background, where it is not on this machine."""
        source, position = self._locate(index)
        if store := self._sharded(remote=True).get(source):
            store.fetch_ahead(position)

    def keep(self, indices: NDArray[np.int64]) -> None:
        """Keep these images in memory from the first read on, where reading them again would take a whole shard."""
        for number, store in self._sharded().items():
            positions = indices - (self._ends[number] - len(store.ids))
            store.keep(positions[(positions >= 0) & (positions < len(store.ids))].tolist())

    def _sharded(self, remote: bool = False) -> dict[int, ShardStore]:
        """The stores in shards, or only those at a URL, by their number."""
        sharded = {number: store for number, store in enumerate(self.stores) if isinstance(store, ShardStore)}
        return {number: store for number, store in sharded.items() if store.is_remote or not remote}

    def _locate(self, index: int) -> tuple[int, int]:
        source = bisect_right(self._ends, index)
        return source, index - (self._ends[source - 1] if source else 0)


def _check_room(stores: Mapping[int, ShardStore], reading: ShardReading) -> None:
    sizes = sorted((shard.size_bytes for store in stores.values() for shard in store.shards), reverse=True)
    needed_gb = sum(sizes[: 2 * reading.window]) / GB
    if needed_gb > reading.cache_gb:
        raise InputError(
            f"data.shards.cache_gb={reading.cache_gb:g} does not hold two windows of data.shards.window={reading.window} "
            f"shards, {needed_gb:.3g} GB; raise the one or lower the other"
        )
