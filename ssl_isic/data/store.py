"""What a store of compressed images is, whatever it reads from."""

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_isic.errors import InputError

Ids = NDArray[np.bytes_]
"""Sorted identifiers as fixed-width bytes: 400,000 of them take 5 MB where Python strings take 25."""


class JpegStore(ABC):
    """Compressed images keyed by id."""

    path: Path | str
    ids: Ids

    @property
    def ids_sha256(self) -> str:
        """SHA-256 of the ids, by which a run's provenance, shards and an overlap name the same images."""
        return hashlib.sha256(self.ids.tobytes()).hexdigest()

    @abstractmethod
    def read(self, position: int) -> bytes:
        """The compressed bytes of image `ids[position]`."""


class UnreadableImage(InputError):
    """One image of a store that cannot be read, while others may be."""


class Stamp(NamedTuple):
    """What tells a file from another one in its place, and from itself before it was written to."""

    inode: int
    size: int
    written_ns: int

    @classmethod
    def of(cls, file: Path | int) -> "Stamp":
        """The stamp of a path, or of an open file by its descriptor."""
        status = os.stat(file)
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


def changed(path: Path) -> InputError:
    """The error of a file that is not what it was when it was opened."""
    return InputError(f"{path} was changed or replaced while it was read; put it back, or start again with it as it is")
