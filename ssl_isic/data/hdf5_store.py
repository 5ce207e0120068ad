"""Kaggle's HDF5 files as a store: one dataset for each `isic_id` with the bytes of an image.

To look a dataset up by its name and read it takes HDF5 some 160 microseconds, a good part of what all augmentation takes.
Where its bytes lie in the file does not change: HDF5 is asked once, all workers note the answer in one table, and from then on
the bytes are read straight from the file, in 4 microseconds. See docs/loading.md.
"""

import os
import weakref
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t

from ssl_isic.data.shard_index import INDEX_NAME
from ssl_isic.data.shared_array import SharedArray, shared_zeros
from ssl_isic.data.store import JpegStore, Stamp, UnreadableImage, changed
from ssl_isic.errors import InputError

HDF5_CHUNK_CACHE_BYTES = 0  # scalar datasets are not chunked
COPIED_AT_ONCE_BYTES = 16 << 20
LOOK_UPS_OF_AN_OPENING = 2000
"""Then the file is opened anew: HDF5 keeps some 4 kB of what it went through for each, as long as the file is open."""


def _advice(path: Path) -> str:
    """What a file may be that is no HDF5 file."""
    if path.suffix == ".tar" or path.name == INDEX_NAME:
        return "of shards give the folder that they are in"
    if path.suffix in (".csv", ".jpg", ".jpeg", ".png"):
        return f"give an HDF5 file or a folder of images, not a {path.suffix}"
    return "is the download complete?"


class Hdf5Store(JpegStore):
    """An HDF5 file with the bytes of one image per id: a fixed-length string (Kaggle's), an opaque scalar, or uint8 (N,)."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stamp = Stamp.of(path)
            with h5py.File(path, "r") as file:
                names = list(file)
                fits = not names or _holds_one_image(file[names[0]])
        except FileNotFoundError:
            raise InputError(f"no such file: {path}; check the path of the images") from None
        except OSError as error:
            raise InputError(f"{path} is not a readable HDF5 file ({error}); {_advice(path)}") from None
        if not names:
            raise InputError(f"{path} holds no images: expected one dataset for each isic_id")
        if not fits:
            raise InputError(f"{path}: {names[0]} does not hold the bytes of one image; expected that for each isic_id")
        self.ids = np.sort(np.array([name.encode() for name in names]))
        self._places = _no_places(len(self.ids))
        """Offset and size of the bytes of each image in the file; 0 as long as nobody has asked HDF5 for them."""
        self._held: SharedArray | None = None
        """All bytes of the file, where they are held in memory."""
        self._file: h5py.File | None = None
        self._pid = -1
        self._looked_up = 0
        self._descriptor = -1

    def read(self, position: int) -> bytes:
        offset, size = self._places.values[position].tolist()
        return self._bytes_at(offset, size) if offset and size else self._look_up(position)

    def size_bytes(self) -> int:
        """Memory that holding it takes."""
        return self._stamp.size

    def hold(self, advance: Callable[[int], object]) -> None:
        """Copy all bytes into shared memory, and read from there from now on; `advance` is told how many are done.

        Raises:
            InputError: a file that cannot be read, or changes meanwhile.
        """
        held = SharedArray((self._stamp.size,), np.uint8)
        descriptor = self._opened()
        start = 0
        while start < self._stamp.size:
            try:
                part: Any = held.values[start : start + COPIED_AT_ONCE_BYTES]
                copied = os.preadv(descriptor, [part], start)
            except OSError as error:
                raise self._gone(error) from None
            if not copied:
                raise changed(self.path)
            start += copied
            advance(copied)
        if Stamp.of(descriptor) != self._stamp:
            raise changed(self.path)
        self._held = held

    def read_ahead(self) -> None:
        """Ask the system to read the file into memory meanwhile, where it can; nothing is waited for."""
        if hasattr(os, "posix_fadvise"):  # macOS has none
            os.posix_fadvise(self._opened(), 0, 0, os.POSIX_FADV_WILLNEED)

    def _look_up(self, position: int) -> bytes:
        """Read by way of HDF5, and note where the bytes lie if they lie in one piece."""
        name = bytes(self.ids[position])
        try:
            dataset = h5d.open(self._hdf5().id, name)
            offset = dataset.get_offset() if _is_stored_as_it_is(dataset.get_type()) else None
            if offset is None:
                value: Any = h5py.Dataset(dataset)[()]
                if isinstance(value, h5py.Empty):
                    return b""  # which is no image, as its reader will find
                return value if isinstance(value, bytes) else bytes(value.tobytes())
        except (OSError, RuntimeError, KeyError) as error:
            if Stamp.of(self._opened()) != self._stamp:
                raise changed(self.path) from None
            raise UnreadableImage(
                f"{self.path}: {name.decode()} cannot be read ({error}); copy the file again"
            ) from None
        data = self._bytes_at(offset, dataset.get_storage_size())
        if dataset.get_type().get_class() == h5t.STRING:
            # fixed-length strings are padded; no JPEG or PNG ends in NUL. Opaque bytes keep them
            data = data.rstrip(b"\x00")
        self._places.values[position, 0] = offset
        self._places.values[position, 1] = len(data)
        return data

    def _bytes_at(self, offset: int, size: int) -> bytes:
        if self._held is not None:
            return bytes(self._held.values[offset : offset + size].tobytes())
        descriptor = self._opened()
        try:
            data = os.pread(descriptor, size, offset)
        except OSError as error:
            raise self._gone(error) from None
        if len(data) < size or Stamp.of(descriptor) != self._stamp:
            raise changed(self.path)
        return data

    def _opened(self) -> int:
        """A descriptor of the file, which forked workers share: reading at an offset moves no position."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise self._gone(error) from None
            weakref.finalize(self, os.close, self._descriptor)
            if Stamp.of(self._descriptor) != self._stamp:
                raise changed(self.path)
        return self._descriptor

    def _hdf5(self) -> h5py.File:
        """The file for one look-up: opened anew after a fork, which h5py's handles do not survive, and after many look-ups."""
        if self._pid != os.getpid():
            self._file, self._pid = None, os.getpid()
        elif self._file is not None and self._looked_up == LOOK_UPS_OF_AN_OPENING:
            self._file.close()
            self._file = None
        if self._file is None:
            try:
                if Stamp.of(self.path) != self._stamp:
                    raise changed(self.path)
                self._file = h5py.File(self.path, "r", rdcc_nbytes=HDF5_CHUNK_CACHE_BYTES)
            except OSError as error:
                raise self._gone(error) from None
            self._looked_up = 0
        self._looked_up += 1
        return self._file

    def _gone(self, error: OSError) -> InputError:
        return InputError(f"cannot read {self.path} any more ({error.strerror or error}); is its disk still there?")

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_file": None, "_pid": -1, "_descriptor": -1}
        if get_spawning_popen() is None:  # a copy is no worker, and shares nothing
            state |= {"_places": None, "_held": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["_places"] is None:
            self._places = _no_places(len(self.ids))


def _no_places(images: int) -> SharedArray:
    return shared_zeros((images, 2), np.int64)


def _holds_one_image(item: h5py.Dataset | h5py.Group) -> bool:
    if not isinstance(item, h5py.Dataset):
        return False
    return bool(item.shape == () or (item.ndim == 1 and item.dtype == np.uint8))


def _is_stored_as_it_is(kind: h5t.TypeID) -> bool:
    """Whether the bytes in the file are the bytes that reading gives, but for padding."""
    if kind.get_class() == h5t.STRING:
        return not kind.is_variable_str() and kind.get_strpad() == h5t.STR_NULLPAD
    return bool(kind.get_class() == h5t.OPAQUE or (kind.get_class() == h5t.INTEGER and kind.get_size() == 1))
