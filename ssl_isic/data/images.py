"""Where the bytes of the images come from: Kaggle's HDF5 files, folders of JPEG and PNG, shards, and pools of such stores.

A store holds compressed bytes keyed by `isic_id`; `decode_rgb` turns them into pixels. Files are opened on the first read
of each process, so that a store survives both `fork` and `spawn`.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.data.remote import as_location
from ssl_isic.data.shard_index import INDEX_NAME
from ssl_isic.data.shard_order import take_from_few_shards
from ssl_isic.data.shard_store import GB, OpenShards, ShardReading, ShardStore
from ssl_isic.data.store import Ids, JpegStore
from ssl_isic.errors import InputError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
HDF5_SUFFIXES = {".hdf5", ".h5", ".hdf"}
HDF5_CHUNK_CACHE_BYTES = 0  # scalar datasets are not chunked


class ImageDecodeError(ValueError):
    """The bytes of one image do not decode."""


def decode_rgb(data: bytes) -> NDArray[np.uint8]:
    """Decode JPEG or PNG bytes into uint8 RGB pixels of shape (height, width, 3).

    Raises:
        ImageDecodeError: the bytes are truncated, damaged or no image.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _decode_jpeg(data)
        return _decode_with_pillow(data)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageDecodeError(str(error) or type(error).__name__) from None


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError:
        return _decode_with_pillow(data)  # CMYK and other rarities; raises for a truncated file
    return pixels


def _decode_with_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


class Hdf5Store(JpegStore):
    """An HDF5 file with the bytes of one image per id: a fixed-length string (Kaggle's), an opaque scalar, or uint8 (N,)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._pid = -1
        try:
            with h5py.File(path, "r") as file:
                names = list(file)
                fits = not names or _holds_one_image(file[names[0]])
        except FileNotFoundError:
            raise InputError(f"no such file: {path}; check the path of the images") from None
        except OSError as error:
            raise InputError(f"{path} is not a readable HDF5 file ({error}); is the download complete?") from None
        if not names:
            raise InputError(f"{path} holds no images: expected one dataset for each isic_id")
        if not fits:
            raise InputError(f"{path}: {names[0]} does not hold the bytes of one image; expected that for each isic_id")
        self.ids = np.sort(np.array([name.encode() for name in names]))

    def read(self, position: int) -> bytes:
        value: Any = self._open()[self.ids[position].decode()][()]
        # fixed-length strings come back without trailing NULs, which no JPEG or PNG ends in; opaque bytes keep them
        return bytes(value) if isinstance(value, bytes) else bytes(value.tobytes())

    def _open(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():  # h5py handles do not survive fork
            self._file = h5py.File(self.path, "r", rdcc_nbytes=HDF5_CHUNK_CACHE_BYTES)
            self._pid = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_pid": -1}


def _holds_one_image(item: h5py.Dataset | h5py.Group) -> bool:
    if not isinstance(item, h5py.Dataset):
        return False
    return bool(item.shape == () or (item.ndim == 1 and item.dtype == np.uint8))


class FolderStore(JpegStore):
    """A folder of JPEG or PNG files, at any depth; the id is the file's name without its suffix."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        files = [file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise InputError(f"{path} holds no .jpg, .jpeg or .png files")
        ids = np.array([file.stem.encode() for file in files])
        order = np.argsort(ids, kind="stable")
        self.ids = ids[order]
        self._files = np.array([str(file.relative_to(path)).encode() for file in files])[order]
        repeated = np.flatnonzero(self.ids[1:] == self.ids[:-1])
        if len(repeated):
            first, second = (self._files[repeated[0] + step].decode() for step in (0, 1))
            raise InputError(f"{path}: {first} and {second} have the same id; give each image one file")

    def read(self, position: int) -> bytes:
        return (self.path / str(self._files[position].decode())).read_bytes()


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
    The same id may stand in several sources: it then counts once in each.
    """

    def __init__(self, sources: Mapping[str, Path | str], reading: ShardReading | None = None) -> None:
        if not sources:
            raise InputError("no image sources: set data.sources.NAME=FILE")
        self._reading = reading or ShardReading()
        open_shards = OpenShards(self._reading)
        self.names = list(sources)
        self.stores = [open_store(as_location(location), open_shards) for location in sources.values()]
        self._ends = np.cumsum([len(store.ids) for store in self.stores])
        _check_room(self._sharded(remote=True), self._reading)

    def __len__(self) -> int:
        return int(self._ends[-1])

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

    def slice_of(self, name: str) -> tuple[int, Ids]:
        """Where source `name` starts in the pool, and its sorted ids."""
        source = self.names.index(name)
        store = self.stores[source]
        return int(self._ends[source]) - len(store.ids), store.ids

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
        source = int(np.searchsorted(self._ends, index, side="right"))
        return source, index - (int(self._ends[source - 1]) if source else 0)


def _check_room(stores: Mapping[int, ShardStore], reading: ShardReading) -> None:
    sizes = sorted((shard.size_bytes for store in stores.values() for shard in store.shards), reverse=True)
    needed_gb = sum(sizes[: 2 * reading.window]) / GB
    if needed_gb > reading.cache_gb:
        raise InputError(
            f"data.shards.cache_gb={reading.cache_gb:g} does not hold two windows of data.shards.window={reading.window} "
            f"shards, {needed_gb:.3g} GB; raise the one or lower the other"
        )
