"""Images where a user has them: folders, zips that stay packed, MedMNIST's arrays, and the stores of `data.images`.

Each kind lists names and reads one image's bytes by its position; files are opened on the first read of each process.
"""

import io
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.data.decoding import ImageDecodeError
from ssl_isic.data.folder_store import is_litter
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.data.images import open_store
from ssl_isic.data.preparing.raw_tables import IMAGE_SUFFIX
from ssl_isic.data.shard_index import INDEX_NAME
from ssl_isic.data.store import JpegStore
from ssl_isic.errors import InputError

SPLITS = ("train", "val", "test")
ENCRYPTED = 0x1
LOCAL_HEADER = struct.Struct("<4s22x2H")
"""Signature, lengths of the name and of the extra field (PKWARE APPNOTE 4.3.7)."""
MAX_IMAGE_BYTES = 1 << 30


class ImageFiles(ABC):
    """Some images with their names."""

    path: Path | str
    stems: Sequence[str]
    """What each image is called, without folder and suffix."""
    parallel = True
    """Whether several processes may read it, each for itself."""

    @abstractmethod
    def read(self, position: int) -> bytes:
        """The bytes of the image at `position`. ImageDecodeError when an archive is damaged there."""

    def name(self, position: int) -> str:
        """The image's name for a message."""
        return f"{self.stems[position]} in {self.path}"


class FolderFiles(ImageFiles):
    """The image files in a folder, at any depth."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        files = [Path(root, name) for root, _, names in os.walk(path) for name in names]
        files = sorted(file for file in files if IMAGE_SUFFIX.search(file.name) and not is_litter(file.name))
        if not files:
            packed = next(iter(sorted(path.rglob("*.zip"))), None)
            hint = f"; give the zips themselves, {packed} say" if packed else ""
            raise InputError(f"{path} holds no images (.jpg, .png, .bmp, .tif){hint}")
        self.stems = [file.stem for file in files]
        self._files = np.array([os.fsencode(file.relative_to(path)) for file in files])

    def read(self, position: int) -> bytes:
        return (self.path / os.fsdecode(self._files[position])).read_bytes()

    def name(self, position: int) -> str:
        return str(self.path / os.fsdecode(self._files[position]))


class ZipFiles(ImageFiles):
    """The image files in a zip, read in place: nothing is written by the names in it."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = [item for item in archive.infolist() if not item.is_dir() and not is_litter(item.filename)]
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is not a readable zip ({error}); is the download complete?") from None
        images = [item for item in members if IMAGE_SUFFIX.search(item.filename)]
        if not images:
            packed = [item.filename for item in members if item.filename.lower().endswith(".zip")]
            hint = f"; it holds further zips ({', '.join(packed[:3])}): unpack it, and give those" if packed else ""
            raise InputError(f"{path} holds no images (.jpg, .png, .bmp, .tif){hint}")
        for item in images:
            if item.flag_bits & ENCRYPTED or item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"{path}: {item.filename} is encrypted, or packed in another way than zip's usual one")
        self.stems = [PurePosixPath(item.filename).stem for item in images]
        self._members = np.array(
            [(item.header_offset, item.compress_size, item.file_size, item.CRC, item.compress_type) for item in images],
            dtype=np.int64,
        )

    def read(self, position: int) -> bytes:
        offset, packed_bytes, size, crc, kind = self._members[position].tolist()
        if size > MAX_IMAGE_BYTES:
            raise ImageDecodeError(f"{size} bytes in the zip {self.path.name}")
        with self.path.open("rb") as file:
            file.seek(offset)
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise ImageDecodeError(f"damaged in the zip {self.path.name}")
            _, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
            file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
            data = file.read(packed_bytes)
        try:
            if kind == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error as error:
            raise ImageDecodeError(f"damaged in the zip {self.path.name} ({error})") from None
        if len(data) != size or zlib.crc32(data) != crc:
            raise ImageDecodeError(f"damaged in the zip {self.path.name} (checksum)")
        return data


class ArrayFiles(ImageFiles):
    """MedMNIST's `.npz`: uint8 arrays of pixels and labels of three splits. Images are called `train_0`, ..., and are PNGs."""

    parallel = False  # the arrays are in memory, 1.5 GB of them at 224 px

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is not a readable .npz ({error}); is the download complete?") from None
        splits = [split for split in SPLITS if f"{split}_images" in arrays]
        if not splits:
            raise InputError(f"{path} holds no train_images, val_images or test_images; is it MedMNIST's?")
        self._images = [arrays[f"{split}_images"] for split in splits]
        for split, images in zip(splits, self._images, strict=True):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                raise InputError(f"{path}: {split}_images is {images.dtype} {images.shape}, not uint8 (N, h, w, 3)")
        self._places = [(which, row) for which, images in enumerate(self._images) for row in range(len(images))]
        self.table = pd.concat([_labels(path, split, arrays) for split in splits], ignore_index=True)
        self.stems = (self.table["split"] + "_" + self.table["index"]).tolist()

    def read(self, position: int) -> bytes:
        which, row = self._places[position]
        buffer = io.BytesIO()
        Image.fromarray(self._images[which][row]).save(buffer, "PNG")
        return buffer.getvalue()


def _labels(path: Path, split: str, arrays: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """The columns split, index and label (rows,), as text."""
    images, labels = arrays[f"{split}_images"], arrays.get(f"{split}_labels")
    if labels is None or labels.size != len(images):
        raise InputError(f"{path}: {split}_labels are missing, or not one for each of {len(images)} images")
    index = [str(k) for k in range(len(images))]
    return pd.DataFrame(
        {"split": split, "index": index, "label": [str(label) for label in labels.ravel().tolist()]}, dtype=object
    )


class StoreFiles(ImageFiles):
    """The images of an HDF5 file or of shards."""

    def __init__(self, store: JpegStore) -> None:
        self._store = store
        self.path = store.path
        self.stems = [name.decode() for name in store.ids.tolist()]

    def read(self, position: int) -> bytes:
        return self._store.read(position)


def open_files(location: Path | str) -> ImageFiles:
    """Open a folder, a zip, an `.npz`, an HDF5 file, or shards in a folder or at a URL.

    Raises:
        InputError: it is missing, or something else.
    """
    if isinstance(location, str) or (location / INDEX_NAME).is_file():
        return StoreFiles(open_store(location))
    if location.is_dir():
        return FolderFiles(location)
    if not location.is_file():
        raise InputError(f"there is no file {location}; check images")
    if location.suffix == ".npz":
        return ArrayFiles(location)
    if location.suffix == ".zip" or zipfile.is_zipfile(location):
        return ZipFiles(location)
    return StoreFiles(Hdf5Store(location))
